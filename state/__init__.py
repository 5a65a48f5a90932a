"""WHAT IS WANTED, WHAT IS: readers only.

git and YAML become Desired; xl, xenstore, links, nftables, iptables and disks become Observed.
Nothing here changes a host.
"""
