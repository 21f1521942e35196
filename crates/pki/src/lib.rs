//! Certificates, signing requests and service-account tokens.
//!
//! Keys are ECDSA P-256: small, and quick to make and to check. Time is an argument everywhere ([`jiff::Timestamp`]); this
//! crate never reads a clock or a file, so everything it makes can be made again in a test.

mod authority;
mod bootstrap_token;
mod certificate;
mod error;
mod jwt;
mod request;
mod token;

pub use authority::{Authority, Issued, LeafParams};
pub use bootstrap_token::BootstrapToken;
pub use certificate::{CertificateInfo, certificate_info, certificates_from_pem, key_fits, public_key_sha256};
pub use error::{Error, Result};
pub use jwt::{ALGORITHMS, JwkSet, Jwt, JwtError};
pub use request::{RequestInfo, new_request, request_info};
pub use token::{Claims, KubernetesClaims, ObjectRef, TokenKey, TokenRef};
