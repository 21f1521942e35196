//! Drives the controllers.
