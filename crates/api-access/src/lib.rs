//! RBAC and built-in admission decisions.
