//! The tests of NIST's PKITS (1.0.1) that are about CRLs, with what its document says of each.

use Pkits::{Good, Revoked, Undetermined};

pub struct Test {
    pub number: &'static str,
    /// Files in `certs`: the certificate in question and who issued it, the extension left out.
    pub certificate: &'static str,
    pub issuer: &'static str,
    /// Files in `crls`, and what must come of each.
    pub crls: &'static [(&'static str, &'static str)],
    pub pkits: Pkits,
    /// Why we come to something else.
    pub differs: Option<&'static str>,
}

/// What a full implementation finds out from all CRLs of the test together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pkits {
    Good,
    Revoked(&'static str),
    /// No CRL tells.
    Undetermined,
}

pub const OTHER_KEY: Option<&str> =
    Some("CRLs are believed with the key that issued the certificate, not another of its owner");
pub const NAMED: Option<&str> =
    Some("distribution points are known by URL, and its CRL has one with a directory name");
pub const REASONS: Option<&str> = Some("CRLs for some reasons are not put together");
pub const INDIRECT: Option<&str> = Some("indirect CRLs are not read");
pub const DELTA: Option<&str> = Some("delta CRLs are not read, which RFC 5280, 5.2.4, leaves open");

const COMPROMISE: Pkits = Revoked("keyCompromise");
const KEY_COMPROMISE: &str = "revoked keyCompromise";

/// 4.4, 4.5, 4.7, 4.14 and 4.15 but for what [`SKIPPED`] names.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    // 4.4: basic certificate revocation.
    same("4.4.2", "RevokedsubCACert", "GoodCACert", &[("GoodCACRL", KEY_COMPROMISE)], COMPROMISE),
    same("4.4.3", "InvalidRevokedEETest3EE", "GoodCACert", &[("GoodCACRL", KEY_COMPROMISE)],
        COMPROMISE),
    // What was changed in its signature is the number of unused bits.
    same("4.4.4", "InvalidBadCRLSignatureTest4EE", "BadCRLSignatureCACert",
        &[("BadCRLSignatureCACRL", "Garbage")], Undetermined),
    same("4.4.5", "InvalidBadCRLIssuerNameTest5EE", "BadCRLIssuerNameCACert",
        &[("BadCRLIssuerNameCACRL", "OtherIssuer")], Undetermined),
    same("4.4.6", "InvalidWrongCRLTest6EE", "WrongCRLCACert", &[("WrongCRLCACRL", "OtherIssuer")],
        Undetermined),
    same("4.4.7", "ValidTwoCRLsTest7EE", "TwoCRLsCACert",
        &[("TwoCRLsCAGoodCRL", "good"), ("TwoCRLsCABadCRL", "OtherIssuer")], Good),
    same("4.4.8", "InvalidUnknownCRLEntryExtensionTest8EE", "UnknownCRLEntryExtensionCACert",
        &[("UnknownCRLEntryExtensionCACRL", "CriticalInEntry")], Undetermined),
    same("4.4.9", "InvalidUnknownCRLExtensionTest9EE", "UnknownCRLExtensionCACert",
        &[("UnknownCRLExtensionCACRL", "Critical")], Undetermined),
    same("4.4.10", "InvalidUnknownCRLExtensionTest10EE", "UnknownCRLExtensionCACert",
        &[("UnknownCRLExtensionCACRL", "Critical")], Undetermined),
    same("4.4.11", "InvalidOldCRLnextUpdateTest11EE", "OldCRLnextUpdateCACert",
        &[("OldCRLnextUpdateCACRL", "Stale")], Undetermined),
    same("4.4.12", "Invalidpre2000CRLnextUpdateTest12EE", "pre2000CRLnextUpdateCACert",
        &[("pre2000CRLnextUpdateCACRL", "Stale")], Undetermined),
    same("4.4.13", "ValidGeneralizedTimeCRLnextUpdateTest13EE",
        "GeneralizedTimeCRLnextUpdateCACert", &[("GeneralizedTimeCRLnextUpdateCACRL", "good")],
        Good),
    // Serial 255; the CRL lists -1.
    same("4.4.14", "ValidNegativeSerialNumberTest14EE", "NegativeSerialNumberCACert",
        &[("NegativeSerialNumberCACRL", "good")], Good),
    same("4.4.15", "InvalidNegativeSerialNumberTest15EE", "NegativeSerialNumberCACert",
        &[("NegativeSerialNumberCACRL", KEY_COMPROMISE)], COMPROMISE),
    same("4.4.16", "ValidLongSerialNumberTest16EE", "LongSerialNumberCACert",
        &[("LongSerialNumberCACRL", "good")], Good),
    same("4.4.17", "ValidLongSerialNumberTest17EE", "LongSerialNumberCACert",
        &[("LongSerialNumberCACRL", "good")], Good),
    same("4.4.18", "InvalidLongSerialNumberTest18EE", "LongSerialNumberCACert",
        &[("LongSerialNumberCACRL", KEY_COMPROMISE)], COMPROMISE),
    other("4.4.19", "ValidSeparateCertificateandCRLKeysTest19EE",
        "SeparateCertificateandCRLKeysCertificateSigningCACert",
        &[("SeparateCertificateandCRLKeysCRL", "KeyUsage")], Good, OTHER_KEY),
    other("4.4.20", "InvalidSeparateCertificateandCRLKeysTest20EE",
        "SeparateCertificateandCRLKeysCertificateSigningCACert",
        &[("SeparateCertificateandCRLKeysCRL", "KeyUsage")], COMPROMISE, OTHER_KEY),
    same("4.4.21", "InvalidSeparateCertificateandCRLKeysTest21EE",
        "SeparateCertificateandCRLKeysCA2CertificateSigningCACert",
        &[("SeparateCertificateandCRLKeysCA2CRL", "KeyUsage")], Undetermined),

    // 4.5: self-issued certificates. The issuer is the one whose key signed.
    other("4.5.1", "ValidBasicSelfIssuedOldWithNewTest1EE",
        "BasicSelfIssuedNewKeyOldWithNewCACert", &[("BasicSelfIssuedNewKeyCACRL", "Signature")],
        Good, OTHER_KEY),
    other("4.5.2", "InvalidBasicSelfIssuedOldWithNewTest2EE",
        "BasicSelfIssuedNewKeyOldWithNewCACert", &[("BasicSelfIssuedNewKeyCACRL", "Signature")],
        COMPROMISE, OTHER_KEY),
    same("4.5.3", "ValidBasicSelfIssuedNewWithOldTest3EE", "BasicSelfIssuedOldKeyNewWithOldCACert",
        &[("BasicSelfIssuedOldKeyCACRL", "good"),
          ("BasicSelfIssuedOldKeySelfIssuedCertCRL", "Signature")], Good),
    other("4.5.4", "ValidBasicSelfIssuedNewWithOldTest4EE", "BasicSelfIssuedOldKeyCACert",
        &[("BasicSelfIssuedOldKeyCACRL", "Signature"),
          ("BasicSelfIssuedOldKeySelfIssuedCertCRL", "OtherPoint")], Good, OTHER_KEY),
    other("4.5.5", "InvalidBasicSelfIssuedNewWithOldTest5EE", "BasicSelfIssuedOldKeyCACert",
        &[("BasicSelfIssuedOldKeyCACRL", "Signature"),
          ("BasicSelfIssuedOldKeySelfIssuedCertCRL", "OtherPoint")], COMPROMISE, OTHER_KEY),
    other("4.5.6", "ValidBasicSelfIssuedCRLSigningKeyTest6EE", "BasicSelfIssuedCRLSigningKeyCACert",
        &[("BasicSelfIssuedCRLSigningKeyCACRL", "Signature"),
          ("BasicSelfIssuedCRLSigningKeyCRLCertCRL", "OtherPoint")], Good, OTHER_KEY),
    other("4.5.7", "InvalidBasicSelfIssuedCRLSigningKeyTest7EE",
        "BasicSelfIssuedCRLSigningKeyCACert",
        &[("BasicSelfIssuedCRLSigningKeyCACRL", "Signature"),
          ("BasicSelfIssuedCRLSigningKeyCRLCertCRL", "OtherPoint")], COMPROMISE, OTHER_KEY),

    // 4.7: key usage.
    same("4.7.3", "ValidkeyUsageNotCriticalTest3EE", "keyUsageNotCriticalCACert",
        &[("keyUsageNotCriticalCACRL", "good")], Good),
    same("4.7.4", "InvalidkeyUsageCriticalcRLSignFalseTest4EE",
        "keyUsageCriticalcRLSignFalseCACert", &[("keyUsageCriticalcRLSignFalseCACRL", "KeyUsage")],
        Undetermined),
    same("4.7.5", "InvalidkeyUsageNotCriticalcRLSignFalseTest5EE",
        "keyUsageNotCriticalcRLSignFalseCACert",
        &[("keyUsageNotCriticalcRLSignFalseCACRL", "KeyUsage")], Undetermined),

    // 4.14: distribution points.
    other("4.14.1", "ValiddistributionPointTest1EE", "distributionPoint1CACert",
        &[("distributionPoint1CACRL", "OtherPoint")], Good, NAMED),
    other("4.14.2", "InvaliddistributionPointTest2EE", "distributionPoint1CACert",
        &[("distributionPoint1CACRL", "OtherPoint")], COMPROMISE, NAMED),
    same("4.14.3", "InvaliddistributionPointTest3EE", "distributionPoint1CACert",
        &[("distributionPoint1CACRL", "OtherPoint")], Undetermined),
    other("4.14.4", "ValiddistributionPointTest4EE", "distributionPoint1CACert",
        &[("distributionPoint1CACRL", "OtherPoint")], Good, NAMED),
    other("4.14.5", "ValiddistributionPointTest5EE", "distributionPoint2CACert",
        &[("distributionPoint2CACRL", "Scope")], Good, NAMED),
    other("4.14.6", "InvaliddistributionPointTest6EE", "distributionPoint2CACert",
        &[("distributionPoint2CACRL", "Scope")], COMPROMISE, NAMED),
    other("4.14.7", "ValiddistributionPointTest7EE", "distributionPoint2CACert",
        &[("distributionPoint2CACRL", "Scope")], Good, NAMED),
    same("4.14.8", "InvaliddistributionPointTest8EE", "distributionPoint2CACert",
        &[("distributionPoint2CACRL", "Scope")], Undetermined),
    same("4.14.9", "InvaliddistributionPointTest9EE", "distributionPoint2CACert",
        &[("distributionPoint2CACRL", "Scope")], Undetermined),
    same("4.14.10", "ValidNoissuingDistributionPointTest10EE", "NoissuingDistributionPointCACert",
        &[("NoissuingDistributionPointCACRL", "good")], Good),
    same("4.14.11", "InvalidonlyContainsUserCertsTest11EE", "onlyContainsUserCertsCACert",
        &[("onlyContainsUserCertsCACRL", "Scope")], Undetermined),
    same("4.14.12", "InvalidonlyContainsCACertsTest12EE", "onlyContainsCACertsCACert",
        &[("onlyContainsCACertsCACRL", "Scope")], Undetermined),
    same("4.14.13", "ValidonlyContainsCACertsTest13EE", "onlyContainsCACertsCACert",
        &[("onlyContainsCACertsCACRL", "good")], Good),
    same("4.14.14", "InvalidonlyContainsAttributeCertsTest14EE", "onlyContainsAttributeCertsCACert",
        &[("onlyContainsAttributeCertsCACRL", "Scope")], Undetermined),
    other("4.14.15", "InvalidonlySomeReasonsTest15EE", "onlySomeReasonsCA1Cert",
        &[("onlySomeReasonsCA1compromiseCRL", "Scope"),
          ("onlySomeReasonsCA1otherreasonsCRL", "Scope")], COMPROMISE, REASONS),
    other("4.14.16", "InvalidonlySomeReasonsTest16EE", "onlySomeReasonsCA1Cert",
        &[("onlySomeReasonsCA1compromiseCRL", "Scope"),
          ("onlySomeReasonsCA1otherreasonsCRL", "Scope")], Revoked("certificateHold"), REASONS),
    same("4.14.17", "InvalidonlySomeReasonsTest17EE", "onlySomeReasonsCA2Cert",
        &[("onlySomeReasonsCA2CRL1", "Scope"), ("onlySomeReasonsCA2CRL2", "Scope")], Undetermined),
    other("4.14.18", "ValidonlySomeReasonsTest18EE", "onlySomeReasonsCA3Cert",
        &[("onlySomeReasonsCA3compromiseCRL", "Scope"),
          ("onlySomeReasonsCA3otherreasonsCRL", "Scope")], Good, REASONS),
    other("4.14.19", "ValidonlySomeReasonsTest19EE", "onlySomeReasonsCA4Cert",
        &[("onlySomeReasonsCA4compromiseCRL", "Scope"),
          ("onlySomeReasonsCA4otherreasonsCRL", "Scope")], Good, REASONS),
    other("4.14.20", "InvalidonlySomeReasonsTest20EE", "onlySomeReasonsCA4Cert",
        &[("onlySomeReasonsCA4compromiseCRL", "Scope"),
          ("onlySomeReasonsCA4otherreasonsCRL", "Scope")], COMPROMISE, REASONS),
    other("4.14.21", "InvalidonlySomeReasonsTest21EE", "onlySomeReasonsCA4Cert",
        &[("onlySomeReasonsCA4compromiseCRL", "Scope"),
          ("onlySomeReasonsCA4otherreasonsCRL", "Scope")], Revoked("affiliationChanged"), REASONS),
    other("4.14.22", "ValidIDPwithindirectCRLTest22EE", "indirectCRLCA1Cert",
        &[("indirectCRLCA1CRL", "Scope")], Good, INDIRECT),
    other("4.14.23", "InvalidIDPwithindirectCRLTest23EE", "indirectCRLCA1Cert",
        &[("indirectCRLCA1CRL", "Scope")], COMPROMISE, INDIRECT),
    other("4.14.24", "ValidIDPwithindirectCRLTest24EE", "indirectCRLCA2Cert",
        &[("indirectCRLCA1CRL", "KeyUsage")], Good, INDIRECT),
    // Its serial is listed, but as one of the CRL's own issuer.
    other("4.14.25", "ValidIDPwithindirectCRLTest25EE", "indirectCRLCA2Cert",
        &[("indirectCRLCA1CRL", "KeyUsage")], Good, INDIRECT),
    same("4.14.26", "InvalidIDPwithindirectCRLTest26EE", "indirectCRLCA2Cert",
        &[("indirectCRLCA1CRL", "KeyUsage")], Undetermined),
    same("4.14.27", "InvalidcRLIssuerTest27EE", "indirectCRLCA2Cert",
        &[("GoodCACRL", "KeyUsage")], Undetermined),
    other("4.14.28", "ValidcRLIssuerTest28EE", "indirectCRLCA3Cert",
        &[("indirectCRLCA3CRL", "OtherPoint"), ("indirectCRLCA3cRLIssuerCRL", "OtherIssuer")],
        Good, INDIRECT),
    other("4.14.29", "ValidcRLIssuerTest29EE", "indirectCRLCA3Cert",
        &[("indirectCRLCA3CRL", "OtherPoint"), ("indirectCRLCA3cRLIssuerCRL", "OtherIssuer")],
        Good, INDIRECT),
    other("4.14.30", "ValidcRLIssuerTest30EE", "indirectCRLCA4Cert",
        &[("indirectCRLCA4cRLIssuerCRL", "KeyUsage")], Good, INDIRECT),
    other("4.14.31", "InvalidcRLIssuerTest31EE", "indirectCRLCA6Cert",
        &[("indirectCRLCA5CRL", "OtherIssuer")], COMPROMISE, INDIRECT),
    other("4.14.32", "InvalidcRLIssuerTest32EE", "indirectCRLCA6Cert",
        &[("indirectCRLCA5CRL", "OtherIssuer")], COMPROMISE, INDIRECT),
    other("4.14.33", "ValidcRLIssuerTest33EE", "indirectCRLCA6Cert",
        &[("indirectCRLCA5CRL", "OtherIssuer")], Good, INDIRECT),
    other("4.14.34", "InvalidcRLIssuerTest34EE", "indirectCRLCA5Cert",
        &[("indirectCRLCA5CRL", "Scope")], COMPROMISE, INDIRECT),
    same("4.14.35", "InvalidcRLIssuerTest35EE", "indirectCRLCA5Cert",
        &[("indirectCRLCA5CRL", "Scope")], Undetermined),

    // 4.15: delta CRLs.
    same("4.15.1", "InvaliddeltaCRLIndicatorNoBaseTest1EE", "deltaCRLIndicatorNoBaseCACert",
        &[("deltaCRLIndicatorNoBaseCACRL", "Scope")], Undetermined),
    same("4.15.2", "ValiddeltaCRLTest2EE", "deltaCRLCA1Cert",
        &[("deltaCRLCA1CRL", "good"), ("deltaCRLCA1deltaCRL", "Scope")], Good),
    same("4.15.3", "InvaliddeltaCRLTest3EE", "deltaCRLCA1Cert",
        &[("deltaCRLCA1CRL", KEY_COMPROMISE), ("deltaCRLCA1deltaCRL", "Scope")], COMPROMISE),
    other("4.15.4", "InvaliddeltaCRLTest4EE", "deltaCRLCA1Cert",
        &[("deltaCRLCA1CRL", "good"), ("deltaCRLCA1deltaCRL", "Scope")], COMPROMISE, DELTA),
    other("4.15.5", "ValiddeltaCRLTest5EE", "deltaCRLCA1Cert",
        &[("deltaCRLCA1CRL", "revoked certificateHold"), ("deltaCRLCA1deltaCRL", "Scope")], Good,
        DELTA),
    other("4.15.6", "InvaliddeltaCRLTest6EE", "deltaCRLCA1Cert",
        &[("deltaCRLCA1CRL", "revoked certificateHold"), ("deltaCRLCA1deltaCRL", "Scope")],
        COMPROMISE, DELTA),
    same("4.15.7", "ValiddeltaCRLTest7EE", "deltaCRLCA1Cert",
        &[("deltaCRLCA1CRL", "good"), ("deltaCRLCA1deltaCRL", "Scope")], Good),
    same("4.15.8", "ValiddeltaCRLTest8EE", "deltaCRLCA2Cert",
        &[("deltaCRLCA2CRL", "good"), ("deltaCRLCA2deltaCRL", "Scope")], Good),
    same("4.15.9", "InvaliddeltaCRLTest9EE", "deltaCRLCA2Cert",
        &[("deltaCRLCA2CRL", KEY_COMPROMISE), ("deltaCRLCA2deltaCRL", "Scope")], COMPROMISE),
    same("4.15.10", "InvaliddeltaCRLTest10EE", "deltaCRLCA3Cert",
        &[("deltaCRLCA3CRL", "Stale"), ("deltaCRLCA3deltaCRL", "Scope")], Undetermined),
];

/// Section or test, number of tests, why they are not run.
pub const SKIPPED: &[(&str, usize, &str)] = &[
    ("4.1", 6, PATH),
    ("4.2", 8, PATH),
    ("4.3", 11, PATH),
    ("4.4.1", 1, "there is no CRL to read"),
    ("4.5.8", 1, "the certificate was issued by who is no CA"),
    ("4.6", 17, PATH),
    ("4.7.1 and 4.7.2", 2, "the certificate was issued by who may not"),
    ("4.8", 20, PATH),
    ("4.9", 8, PATH),
    ("4.10", 14, PATH),
    ("4.11", 11, PATH),
    ("4.12", 10, PATH),
    ("4.13", 38, PATH),
    ("4.16", 2, PATH),
];

const PATH: &str = "validation of paths is for clients; a server serves what its CA delivered";

const fn same(
    number: &'static str,
    certificate: &'static str,
    issuer: &'static str,
    crls: &'static [(&'static str, &'static str)],
    pkits: Pkits,
) -> Test {
    Test { number, certificate, issuer, crls, pkits, differs: None }
}

const fn other(
    number: &'static str,
    certificate: &'static str,
    issuer: &'static str,
    crls: &'static [(&'static str, &'static str)],
    pkits: Pkits,
    differs: Option<&'static str>,
) -> Test {
    Test { number, certificate, issuer, crls, pkits, differs }
}
