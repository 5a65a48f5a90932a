"""How long it takes to see how full the disks of many guests are."""
