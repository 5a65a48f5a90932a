"""A dom0 in memory, and the campaign that shows that every walk over it comes to rest."""
