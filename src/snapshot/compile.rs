//! From valid resources to a snapshot.
