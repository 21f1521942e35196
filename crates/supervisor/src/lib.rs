//! Which components run, in what order, with which configuration.
