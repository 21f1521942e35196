//! Defaulting, validation, update strategies and table printers per kind.
