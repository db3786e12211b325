//! Context intake: the client's tar stream, unpacked into a directory of the build.

/// What a context may hold; beyond it the build is refused.
#[derive(Debug, Clone)]
pub struct ContextLimits {
    /// Bytes of all files together, unpacked.
    pub max_bytes: u64,
    /// Entries of the archive.
    pub max_entries: u64,
    /// Bytes of the Dockerfile, and of `.dockerignore`.
    pub max_dockerfile_bytes: u64,
}

impl Default for ContextLimits {
    /// 64 GiB, 2 million entries, 4 MiB.
    fn default() -> Self {
        Self { max_bytes: 64 << 30, max_entries: 2_000_000, max_dockerfile_bytes: 4 << 20 }
    }
}
