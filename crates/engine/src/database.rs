//! The engine database: schema and the writer.
