//! A commit of a git repository as a folder.
