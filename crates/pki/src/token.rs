//! Service-account tokens: JWTs signed with ES256, in the shape of bound tokens (KEP-1205).

use base64::Engine as _;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rcgen::{KeyPair, PublicKeyData as _};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Bytes of a token that are read at most.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Signs and checks tokens.
pub struct TokenKey {
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    x: String,
    y: String,
}

/// Claims of a service-account token; times are seconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io", default)]
    pub kubernetes: KubernetesClaims,
    #[serde(default)]
    pub nbf: i64,
    /// `system:serviceaccount:<namespace>:<name>`
    pub sub: String,
}

/// What the token is bound to: it dies with any of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesClaims {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectRef>,
    pub serviceaccount: ObjectRef,
    /// Seconds since the epoch after which use of the token is worth a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectRef {
    pub name: String,
    pub uid: String,
}

/// Which service account a token speaks for, and for how long.
#[derive(Debug, Clone)]
pub struct TokenRef<'a> {
    pub issuer: &'a str,
    pub audiences: Vec<String>,
    pub claims: KubernetesClaims,
    /// Unique id of the token.
    pub jti: String,
    pub now: Timestamp,
    /// Seconds.
    pub valid_for_seconds: i64,
}

impl TokenKey {
    /// A new private key in PEM.
    pub fn generate_pem() -> Result<String> {
        Ok(KeyPair::generate()?.serialize_pem())
    }

    /// From a P-256 private key in PEM (PKCS #8).
    pub fn load(key_pem: &str) -> Result<Self> {
        let pair = KeyPair::from_pem(key_pem)?;
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &pair.subject_public_key_info());
        let point = pair.public_key_raw();
        // An uncompressed point: one tag byte, then both coordinates of 32 bytes.
        let coordinate = |from: usize| url.encode(point.get(from..from + 32).unwrap_or_default());
        Ok(Self {
            kid: url.encode(digest),
            encoding: EncodingKey::from_ec_pem(key_pem.as_bytes())?,
            decoding: DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes())?,
            x: coordinate(1),
            y: coordinate(33),
        })
    }

    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn sign(&self, token: &TokenRef<'_>) -> Result<String> {
        let now = token.now.as_second();
        let account = &token.claims;
        let claims = Claims {
            aud: token.audiences.clone(),
            exp: now.saturating_add(token.valid_for_seconds),
            iat: now,
            iss: token.issuer.to_owned(),
            jti: token.jti.clone(),
            nbf: now,
            sub: format!("system:serviceaccount:{}:{}", account.namespace, account.serviceaccount.name),
            kubernetes: token.claims.clone(),
        };
        let header = Header { kid: Some(self.kid.clone()), typ: None, ..Header::new(Algorithm::ES256) };
        Ok(encode(&header, &claims, &self.encoding)?)
    }

    /// Checks signature, issuer, times and, when `audiences` is not empty, that one of them is meant. Whether what the
    /// token is bound to still exists is the caller's to check.
    pub fn verify(&self, token: &str, issuer: &str, audiences: &[&str], now: Timestamp) -> Result<Claims> {
        let invalid = |kind| crate::Error::Token(jsonwebtoken::errors::new_error(kind));
        use jsonwebtoken::errors::ErrorKind;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid(ErrorKind::InvalidToken));
        }
        let mut validation = Validation::new(Algorithm::ES256);
        // Times are checked below against the caller's clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        let claims: Claims = decode(token, &self.decoding, &validation)?.claims;
        if now.as_second() >= claims.exp {
            return Err(invalid(ErrorKind::ExpiredSignature));
        }
        if now.as_second() < claims.nbf.saturating_sub(60) {
            return Err(invalid(ErrorKind::ImmatureSignature));
        }
        if !audiences.is_empty() && !claims.aud.iter().any(|aud| audiences.contains(&aud.as_str())) {
            return Err(invalid(ErrorKind::InvalidAudience));
        }
        Ok(claims)
    }

    /// The public key as `/openid/v1/jwks` shows it (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256", "x": self.x, "y": self.y,
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_live_as_long_as_they_say() {
        let key = TokenKey::load(&TokenKey::generate_pem().expect("key")).expect("key");
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("time");
        let claims = KubernetesClaims {
            namespace: "default".to_owned(),
            serviceaccount: ObjectRef { name: "web".to_owned(), uid: "u".to_owned() },
            ..KubernetesClaims::default()
        };
        let issuer = "https://kubernetes.default.svc";
        let audiences = vec!["api".to_owned()];
        let token = key
            .sign(&TokenRef { issuer, audiences, claims, jti: "j".to_owned(), now, valid_for_seconds: 600 })
            .expect("token");
        let read = key.verify(&token, issuer, &["api"], now).expect("claims");
        assert_eq!(read.sub, "system:serviceaccount:default:web");
        let later = now + jiff::SignedDuration::from_secs(600);
        assert!(key.verify(&token, issuer, &["api"], later).is_err());
        assert!(key.verify(&token, "other", &["api"], now).is_err());
        assert!(key.verify(&token, issuer, &["other"], now).is_err());
        assert!(key.verify(&token[..token.len() - 2], issuer, &["api"], now).is_err());
        let other = TokenKey::load(&TokenKey::generate_pem().expect("key")).expect("key");
        assert!(other.verify(&token, issuer, &["api"], now).is_err());
    }
}
