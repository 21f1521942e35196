//! Certificates, signing requests and tokens.
