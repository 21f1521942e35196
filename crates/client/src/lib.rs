//! Typed and dynamic access to the API, informers.
