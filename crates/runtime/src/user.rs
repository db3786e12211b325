//! Users and groups by the container's own `/etc/passwd` and `/etc/group`.
