//! System calls: namespaces, cgroups, mounts, processes.
