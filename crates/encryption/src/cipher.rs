//! The ciphers, in upstream's formats. Source: `k8s.io/apiserver/pkg/storage/value/encrypt/{aes,secretbox}`.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    self, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_store::SealId;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};

use crate::{ConfigError, Names};

const GCM_NONCE_BYTES: usize = 12;
const CBC_IV_BYTES: usize = 16;
const SECRETBOX_NONCE_BYTES: usize = 24;
const CLUSTER_KEY_BYTES: usize = 32;

const TOO_SHORT: &str = "the stored data was shorter than the required size";

/// The key that a cluster makes for itself: 32 bytes, kept in base64.
#[derive(Clone)]
pub struct ClusterKey([u8; CLUSTER_KEY_BYTES]);

impl ClusterKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn from_random(random: [u8; CLUSTER_KEY_BYTES]) -> Self {
        Self(random)
    }

    /// From the text that [`ClusterKey::text`] gave.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let bytes = STANDARD.decode(text.trim()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| ConfigError::new("the cluster's encryption key must be 32 bytes in base64"))
    }

    #[must_use]
    pub fn text(&self) -> String {
        STANDARD.encode(self.0) + "\n"
    }

    pub(crate) fn provider(&self, names: &Names) -> Provider {
        let prefix = "k8s:enc:aesgcm:v1:cluster:".to_owned();
        let id = names.id(&prefix, &self.0);
        let key = UnboundKey::new(&aead::AES_256_GCM, &self.0).expect("32 bytes are a key of AES-256");
        Provider::Key { prefix, cipher: Cipher::Gcm(LessSafeKey::new(key)), id }
    }
}

/// One key of a provider of the configuration, or `identity`.
#[expect(clippy::large_enum_variant, reason = "there are a few of them in a server")]
pub(crate) enum Provider {
    Identity,
    Key { prefix: String, cipher: Cipher, id: SealId },
}

#[expect(clippy::large_enum_variant, reason = "there are a few of them in a server")]
pub(crate) enum Cipher {
    Gcm(LessSafeKey),
    Cbc { encrypt: PaddedBlockEncryptingKey, decrypt: PaddedBlockDecryptingKey },
    Secretbox(Box<XSalsa20Poly1305>),
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "unable to read sufficient random bytes".to_owned())?;
    Ok(bytes)
}

impl Cipher {
    /// `None` when a key is not as long as the cipher takes it.
    pub(crate) fn gcm(secret: &[u8]) -> Option<Self> {
        let algorithm = match secret.len() {
            16 => &aead::AES_128_GCM,
            24 => &aead::AES_192_GCM,
            32 => &aead::AES_256_GCM,
            _ => return None,
        };
        UnboundKey::new(algorithm, secret).ok().map(|key| Self::Gcm(LessSafeKey::new(key)))
    }

    pub(crate) fn cbc(secret: &[u8]) -> Option<Self> {
        let algorithm = match secret.len() {
            16 => &cipher::AES_128,
            24 => &cipher::AES_192,
            32 => &cipher::AES_256,
            _ => return None,
        };
        let key = || UnboundCipherKey::new(algorithm, secret).ok();
        let encrypt = PaddedBlockEncryptingKey::cbc_pkcs7(key()?).ok()?;
        let decrypt = PaddedBlockDecryptingKey::cbc_pkcs7(key()?).ok()?;
        Some(Self::Cbc { encrypt, decrypt })
    }

    pub(crate) fn secretbox(secret: &[u8]) -> Option<Self> {
        XSalsa20Poly1305::new_from_slice(secret).ok().map(|cipher| Self::Secretbox(Box::new(cipher)))
    }

    /// `prefix`, and after it what is needed to read the value again.
    pub(crate) fn seal(&self, prefix: &[u8], value: &[u8], path: &[u8]) -> Result<Vec<u8>, String> {
        let failed = || "the value could not be encrypted".to_owned();
        let mut out = Vec::with_capacity(prefix.len() + value.len() + 64);
        out.extend_from_slice(prefix);
        match self {
            Self::Gcm(key) => {
                let nonce = random::<GCM_NONCE_BYTES>()?;
                out.extend_from_slice(&nonce);
                let start = out.len();
                out.extend_from_slice(value);
                let (_, body) = out.split_at_mut(start);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(path), body).map_err(|_| failed())?;
                out.extend_from_slice(tag.as_ref());
            }
            Self::Cbc { encrypt, .. } => {
                let mut body = value.to_vec();
                let context = encrypt.encrypt(&mut body).map_err(|_| failed())?;
                let iv: &[u8] = (&context).try_into().map_err(|_| failed())?;
                out.extend_from_slice(iv);
                out.extend_from_slice(&body);
            }
            Self::Secretbox(cipher) => {
                let nonce = random::<SECRETBOX_NONCE_BYTES>()?;
                out.extend_from_slice(&nonce);
                out.extend(cipher.encrypt(&nonce.into(), value).map_err(|_| failed())?);
            }
        }
        Ok(out)
    }

    /// The value of what stands after the prefix.
    pub(crate) fn open(&self, stored: &[u8], path: &[u8]) -> Result<Vec<u8>, String> {
        let failed = || "the value could not be decrypted: it was written with another key, or is damaged".to_owned();
        let short = || TOO_SHORT.to_owned();
        match self {
            Self::Gcm(key) => {
                let (nonce, body) = stored.split_first_chunk::<GCM_NONCE_BYTES>().ok_or_else(short)?;
                let mut body = body.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let len = key.open_in_place(nonce, Aad::from(path), &mut body).map_err(|_| failed())?.len();
                body.truncate(len);
                Ok(body)
            }
            Self::Cbc { decrypt, .. } => {
                let (iv, body) = stored.split_first_chunk::<CBC_IV_BYTES>().ok_or_else(short)?;
                let mut body = body.to_vec();
                let context = DecryptionContext::Iv128(FixedLength::from(*iv));
                let len = decrypt.decrypt(&mut body, context).map_err(|_| failed())?.len();
                body.truncate(len);
                Ok(body)
            }
            Self::Secretbox(cipher) => {
                let (nonce, body) = stored.split_first_chunk::<SECRETBOX_NONCE_BYTES>().ok_or_else(short)?;
                cipher.decrypt(&(*nonce).into(), body).map_err(|_| failed())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cipher_reads_what_it_wrote() {
        let ciphers = [
            Cipher::gcm(&[1; 16]),
            Cipher::gcm(&[1; 24]),
            Cipher::gcm(&[1; 32]),
            Cipher::cbc(&[1; 16]),
            Cipher::cbc(&[1; 24]),
            Cipher::cbc(&[1; 32]),
            Cipher::secretbox(&[1; 32]),
        ];
        for cipher in ciphers.map(|cipher| cipher.expect("a key")) {
            for len in [0, 1, 15, 16, 17, 5000] {
                let value = vec![7; len];
                let sealed = cipher.seal(b"p:", &value, b"/a").expect("sealed");
                assert!(sealed.starts_with(b"p:") && (len < 15 || !sealed.windows(len).any(|part| part == value)));
                assert_eq!(cipher.open(&sealed[2..], b"/a").expect("opened"), value);
                assert!(cipher.open(&sealed[2..10], b"/a").is_err());
            }
        }
        assert!(Cipher::gcm(&[1; 15]).is_none() && Cipher::cbc(&[]).is_none() && Cipher::secretbox(&[1; 31]).is_none());
    }

    #[test]
    fn a_value_stays_where_it_was_written() {
        let cipher = Cipher::gcm(&[1; 32]).expect("a key");
        let sealed = cipher.seal(b"", b"value", b"/registry/secrets/a/b").expect("sealed");
        assert!(cipher.open(&sealed, b"/registry/secrets/a/c").is_err());
    }

    /// The vector of `golang.org/x/crypto/nacl/secretbox`.
    #[test]
    fn secretbox_is_nacls() {
        let cipher = XSalsa20Poly1305::new_from_slice(&[1; 32]).expect("a key");
        let sealed = cipher.encrypt(&[2; 24].into(), &[3; 64][..]).expect("sealed");
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "8442bc313f4626f1359e3b50122b6ce6fe66ddfe7d39d14e637eb4fd5b45beadab55198df6ab5368439792a23c87db70acb6156dc5ef957ac04f6276cf6093b84be77ff0849cc33e34b7254d5a8f65ad"
        );
    }
}
