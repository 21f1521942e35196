//! Services and endpoints to wanted packet rules.
