//! `.dockerignore`: which files of a directory belong to the context.
