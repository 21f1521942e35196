//! The contract of deciders.
