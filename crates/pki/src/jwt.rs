//! JSON Web Tokens of other issuers, checked against their issuers' keys. Source: RFC 7515, 7517, 7518.

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::token::TOKEN_BYTES_MAX;

/// Keys of one set that are read.
const KEYS_MAX: usize = 256;

/// Why a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("malformed token")]
    Malformed,
    #[error("unexpected signature algorithm {0:?}")]
    Algorithm(String),
    #[error("no key of the issuer fits")]
    NoKey,
    #[error("failed to verify signature")]
    Signature,
}

/// A token that was read, but not believed yet.
#[derive(Debug)]
pub struct Jwt<'a> {
    algorithm: String,
    key_id: Option<String>,
    claims: Value,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Takes a token in compact form apart.
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let header: Value = object(header)?;
        let claims = object(payload)?;
        // Extensions that must be understood are not.
        if header.get("crit").is_some() {
            return Err(JwtError::Malformed);
        }
        let text = |field: &str| header.get(field).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            algorithm: text("alg").ok_or(JwtError::Malformed)?,
            key_id: text("kid"),
            claims,
            signed: signed.as_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Malformed)?,
        })
    }

    #[must_use]
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// Not to be believed before [`Jwt::verify`].
    #[must_use]
    pub fn claims(&self) -> &Value {
        &self.claims
    }

    #[must_use]
    pub fn issuer(&self) -> &str {
        self.claims.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// Checks the signature with the keys that fit the token.
    pub fn verify(&self, keys: &JwkSet) -> Result<(), JwtError> {
        if !ALGORITHMS.contains(&self.algorithm.as_str()) {
            return Err(JwtError::Algorithm(self.algorithm.clone()));
        }
        let named = |key: &&Jwk| match (&self.key_id, &key.id) {
            (Some(wanted), Some(own)) => wanted == own,
            _ => true,
        };
        let fits = |key: &&Jwk| key.algorithm.as_ref().is_none_or(|own| *own == self.algorithm);
        let mut found = false;
        for key in keys.0.iter().filter(named).filter(fits) {
            found = true;
            if key.material.verify(&self.algorithm, self.signed, &self.signature) {
                return Ok(());
            }
        }
        Err(if found { JwtError::Signature } else { JwtError::NoKey })
    }
}

/// What signatures may be made with. Source: `oidc.AllValidSigningAlgorithms`.
pub const ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];

fn object(part: &str) -> Result<Value, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)?;
    if value.is_object() { Ok(value) } else { Err(JwtError::Malformed) }
}

/// The public keys of an issuer.
#[derive(Debug, Clone, Default)]
pub struct JwkSet(Vec<Jwk>);

#[derive(Debug, Clone)]
struct Jwk {
    id: Option<String>,
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point and its curve.
    Ec {
        curve: &'static str,
        point: Vec<u8>,
    },
}

impl JwkSet {
    /// Reads a key set; keys of kinds that are not known are left out. `None` when it is no key set.
    #[must_use]
    pub fn read(set: &Value) -> Option<Self> {
        let keys = set.get("keys")?.as_array()?;
        Some(Self(keys.iter().take(KEYS_MAX).filter_map(Jwk::read).collect()))
    }
}

impl Jwk {
    fn read(key: &Value) -> Option<Self> {
        let text = |field: &str| key.get(field).and_then(Value::as_str);
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(text(field)?).ok();
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let material = match text("kty")? {
            "RSA" => Material::Rsa { n: bytes("n")?, e: bytes("e")? },
            "EC" => {
                let (curve, len) = match text("crv")? {
                    "P-256" => ("P-256", 32),
                    "P-384" => ("P-384", 48),
                    "P-521" => ("P-521", 66),
                    _ => return None,
                };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != len || y.len() != len {
                    return None;
                }
                Material::Ec { curve, point: [vec![4], x, y].concat() }
            }
            _ => return None,
        };
        Some(Self { id: text("kid").map(str::to_owned), algorithm: text("alg").map(str::to_owned), material })
    }
}

impl Material {
    fn verify(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                let Some(parameters) = rsa(algorithm) else { return false };
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            Self::Ec { curve, point } => {
                let Some(ecdsa) = ecdsa(algorithm, curve) else { return false };
                UnparsedPublicKey::new(ecdsa, point).verify(signed, signature).is_ok()
            }
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn ecdsa(algorithm: &str, curve: &str) -> Option<&'static EcdsaVerificationAlgorithm> {
    match (algorithm, curve) {
        ("ES256", "P-256") => Some(&ECDSA_P256_SHA256_FIXED),
        ("ES384", "P-384") => Some(&ECDSA_P384_SHA384_FIXED),
        ("ES512", "P-521") => Some(&ECDSA_P521_SHA512_FIXED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair,
    };
    use serde_json::json;

    use super::*;

    fn unsigned(algorithm: &str) -> String {
        let header = json!({"alg": algorithm, "kid": "k"}).to_string();
        let claims = json!({"iss": "https://a", "sub": "jane"}).to_string();
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    fn check(token: &str, set: &Value) {
        let keys = JwkSet::read(set).expect("a set");
        let jwt = Jwt::parse(token).expect("a token");
        assert_eq!((jwt.issuer(), jwt.verify(&keys)), ("https://a", Ok(())), "{}", jwt.algorithm());
        let damaged = format!("{}A{}", &token[..token.len() - 10], &token[token.len() - 9..]);
        let damaged = Jwt::parse(&damaged).expect("a token");
        assert!(damaged.verify(&keys).is_err() || damaged.signature == jwt.signature);
        assert_eq!(jwt.verify(&JwkSet::default()), Err(JwtError::NoKey));
    }

    #[test]
    fn rsa_keys_sign() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("key");
        let public: PublicKeyComponents<Vec<u8>> = pair.public_key().into();
        let set = json!({"keys": [{"kty": "RSA", "use": "sig", "kid": "k", "n": URL_SAFE_NO_PAD.encode(&public.n), "e": URL_SAFE_NO_PAD.encode(&public.e)}]});
        let encodings: [(&str, &'static dyn RsaEncoding); 6] = [
            ("RS256", &signature::RSA_PKCS1_SHA256),
            ("RS384", &signature::RSA_PKCS1_SHA384),
            ("RS512", &signature::RSA_PKCS1_SHA512),
            ("PS256", &signature::RSA_PSS_SHA256),
            ("PS384", &signature::RSA_PSS_SHA384),
            ("PS512", &signature::RSA_PSS_SHA512),
        ];
        for (algorithm, encoding) in encodings {
            let text = unsigned(algorithm);
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("signed");
            check(&format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)), &set);
        }
    }

    #[test]
    fn elliptic_keys_sign() {
        let kinds: [(&str, &str, &'static EcdsaSigningAlgorithm); 3] = [
            ("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            ("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            ("ES512", "P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
        ];
        for (algorithm, curve, signing) in kinds {
            let pair = EcdsaKeyPair::generate(signing).expect("key");
            let point = pair.public_key().as_ref();
            let (x, y) = point[1..].split_at((point.len() - 1) / 2);
            let set = json!({"keys": [{"kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}]});
            let text = unsigned(algorithm);
            let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).expect("signed");
            check(&format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)), &set);
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let none = format!("{}.", unsigned("none"));
        let none = Jwt::parse(&none).expect("a token");
        assert_eq!(none.verify(&JwkSet::default()), Err(JwtError::Algorithm("none".to_owned())));
        for bad in ["", "a.b", "a.b.c", "e30.e30", "bnVsbA.bnVsbA.x"] {
            assert!(Jwt::parse(bad).is_err(), "{bad}");
        }
    }
}
