use rsa::{
    BoxedUint,
    pkcs1v15::{Signature as RsaSignature, VerifyingKey as RsaVerifyingKey},
    signature::Verifier as _,
};
use sha2::Sha256;

#[derive(Debug)]
pub(crate) struct Ed25519PublicKey(ed25519_dalek::VerifyingKey);

impl Ed25519PublicKey {
    /// `None` where the bytes are not a sound public key.
    pub(crate) fn parse(x: &[u8; 32]) -> Option<Self> {
        if !super::is_sound_point(x) {
            return None;
        }
        ed25519_dalek::VerifyingKey::from_bytes(x).ok().map(Self)
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let parsed = ed25519_dalek::Signature::from_bytes(signature);
        super::has_sound_point(signature) && self.0.verify_strict(message, &parsed).is_ok()
    }
}

#[derive(Debug)]
pub(crate) struct RsaPublicKey(RsaVerifyingKey<Sha256>);

impl RsaPublicKey {
    /// Big-endian, without leading zeros. `None` where the backend refuses the key.
    pub(crate) fn parse(n: &[u8], e: &[u8]) -> Option<Self> {
        let n = BoxedUint::from_be_slice_vartime(n);
        let e = BoxedUint::from_be_slice_vartime(e);
        let key = rsa::PublicKey::new_with_size_limits(n, e, 2048..=8192).ok()?;
        Some(Self(RsaVerifyingKey::new(key)))
    }

    pub(crate) fn verify_rs256(&self, message: &[u8], signature: &[u8]) -> bool {
        RsaSignature::try_from(signature)
            .is_ok_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}

#[cfg(feature = "testing")]
pub(crate) use signing::{Ed25519PrivateKey, RsaPrivateKey};

#[cfg(feature = "testing")]
mod signing {
    use rsa::{
        pkcs1v15::SigningKey,
        pkcs8::DecodePrivateKey as _,
        signature::{SignatureEncoding as _, Signer as _},
        traits::PublicKeyParts as _,
    };
    use sha2::Sha256;

    #[derive(Debug)]
    pub(crate) struct Ed25519PrivateKey {
        signing: ed25519_dalek::SigningKey,
        public: [u8; 32],
    }

    impl Ed25519PrivateKey {
        pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
            let signing = ed25519_dalek::SigningKey::from_bytes(seed);
            let public = signing.verifying_key().to_bytes();
            Self { signing, public }
        }

        pub(crate) fn public(&self) -> &[u8] {
            &self.public
        }

        pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
            use ed25519_dalek::Signer as _;
            self.signing.sign(message).to_vec()
        }
    }

    #[derive(Debug)]
    pub(crate) struct RsaPrivateKey(SigningKey<Sha256>);

    impl RsaPrivateKey {
        pub(crate) fn from_pkcs8(der: &[u8]) -> Option<Self> {
            let key = rsa::PrivateKey::from_pkcs8_der(der).ok()?;
            Some(Self(SigningKey::new(key)))
        }

        /// The modulus and the public exponent, big-endian.
        pub(crate) fn public(&self) -> (Vec<u8>, Vec<u8>) {
            let key: &rsa::PrivateKey = self.0.as_ref();
            (key.n_bytes().to_vec(), key.e_bytes().to_vec())
        }

        pub(crate) fn sign_rs256(&self, message: &[u8]) -> Option<Vec<u8>> {
            Some(self.0.try_sign(message).ok()?.to_vec())
        }
    }
}
