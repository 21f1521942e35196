//! The built-in kinds and the catalogue of every served resource.
