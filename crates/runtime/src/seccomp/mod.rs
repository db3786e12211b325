//! Seccomp: Docker's default profile, and OCI profiles, compiled to BPF.
