//! cgroup/mod
