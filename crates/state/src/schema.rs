//! What a database looks like, and how it came to look like that.

/// How far a commit goes before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// Every commit is on the disk: survives a power loss. Costs a flush (a few milliseconds).
    Full,
    /// A commit survives the process; a power loss may take the last ones.
    Normal,
}

/// One step from a version of the schema to the next.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The statements, run in one transaction together with the new `user_version`.
    pub sql: &'static str,
    /// The oldest schema version (1 = the first migration alone) whose program can still read and
    /// write the database afterwards. A migration that only adds columns or tables repeats the
    /// number of the one before; the first migration says 1.
    pub reader: u32,
}

/// A database's whole schema.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// All migrations since the first release, in order; never edited once released.
    pub migrations: &'static [Migration],
    /// How far [`crate::Database::write`] goes.
    pub synchronous: Synchronous,
}
