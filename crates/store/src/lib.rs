//! Revisioned keyspace with watch, durable by group commit.
