//! Fetch, resolve and publish as a build pod runs them.
