//! The OCI specification of a build step: pure.
