//! A build's context: the files under a directory that `.dockerignore` leaves, as a tar stream.

pub(crate) mod ignore;
pub(crate) mod send;
