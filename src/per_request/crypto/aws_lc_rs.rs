use aws_lc_rs::signature::{
    ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};

#[derive(Debug)]
pub(crate) struct Ed25519PublicKey(ParsedPublicKey);

impl Ed25519PublicKey {
    /// `None` where the bytes are not a sound public key.
    pub(crate) fn parse(x: &[u8; 32]) -> Option<Self> {
        if !super::is_sound_point(x) {
            return None;
        }
        ParsedPublicKey::new(&ED25519, x).ok().map(Self)
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        super::has_sound_point(signature) && self.0.verify_sig(message, signature).is_ok()
    }
}

#[derive(Debug)]
pub(crate) struct RsaPublicKey(ParsedPublicKey);

impl RsaPublicKey {
    /// Big-endian, without leading zeros. `None` where the backend refuses the key.
    pub(crate) fn parse(n: &[u8], e: &[u8]) -> Option<Self> {
        RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .ok()
            .map(Self)
    }

    pub(crate) fn verify_rs256(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

#[cfg(feature = "testing")]
pub(crate) use signing::{Ed25519PrivateKey, RsaPrivateKey};

#[cfg(feature = "testing")]
mod signing {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
    };

    #[derive(Debug)]
    pub(crate) struct Ed25519PrivateKey(Ed25519KeyPair);

    impl Ed25519PrivateKey {
        #[expect(clippy::expect_used, reason = "any 32 bytes are a seed (RFC 8032)")]
        pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
            Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("any seed"))
        }

        pub(crate) fn public(&self) -> &[u8] {
            self.0.public_key().as_ref()
        }

        pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
            self.0.sign(message).as_ref().to_vec()
        }
    }

    #[derive(Debug)]
    pub(crate) struct RsaPrivateKey(RsaKeyPair);

    impl RsaPrivateKey {
        pub(crate) fn from_pkcs8(der: &[u8]) -> Option<Self> {
            RsaKeyPair::from_pkcs8(der).ok().map(Self)
        }

        /// The modulus and the public exponent, big-endian.
        pub(crate) fn public(&self) -> (Vec<u8>, Vec<u8>) {
            let public = self.0.public_key();
            let modulus = public.modulus().big_endian_without_leading_zero();
            let exponent = public.exponent().big_endian_without_leading_zero();
            (modulus.to_vec(), exponent.to_vec())
        }

        pub(crate) fn sign_rs256(&self, message: &[u8]) -> Option<Vec<u8>> {
            let mut signature = vec![0; self.0.public_modulus_len()];
            let random = SystemRandom::new();
            self.0
                .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                .ok()?;
            Some(signature)
        }
    }
}
