"""`cdpd`: builds the rooms, and gives arriving disks to volumes."""
