"""The product on the simulated dom0: real git, real xl and xenstored, real nft, real frames."""
