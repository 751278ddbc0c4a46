"""The offline check: reads everything that is on one or two disks, and names what is wrong."""
