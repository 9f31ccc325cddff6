"""The live replica under faults: processes killed, frozen and forked, disks full, files damaged, servers that lie or are silent."""
