//! The signing keys of a partition.

use super::{Findings, Rule};
use crate::model::Partition;

pub(super) fn audit(f: &mut Findings, p: &Partition) {
    let keystore = &p.keystore;
    let current = keystore.current_kid.as_ref();
    let installed = current.is_none_or(|kid| keystore.kids.contains_key(kid));
    f.ensure(Rule::Kids, installed, || format!("the current kid {current:?} is not installed"));
    f.ensure(Rule::Kids, keystore.kids.is_empty() || current.is_some(), || "there are kids and none is current".into());
    for (kid, record) in &keystore.kids {
        let home = record.kid == *kid && record.partition == p.number();
        f.ensure(Rule::Kids, home, || format!("kid {kid} is {} of partition {}", record.kid, record.partition));
        let fits = if current == Some(kid) {
            record.secret.is_some() && record.expires_at.is_none() && record.revoked_at.is_none()
        } else {
            record.expires_at.is_some() && (record.secret.is_none() || record.revoked_at.is_none())
        };
        f.ensure(Rule::Kids, fits, || {
            let (expires_at, revoked_at) = (record.expires_at, record.revoked_at);
            format!("kid {kid}, current {current:?}, expires {expires_at:?} and was revoked {revoked_at:?}")
        });
        let digest = record.secret.as_ref().is_none_or(|secret| secret.digest() == record.digest);
        f.ensure(Rule::Kids, digest, || format!("kid {kid} has another secret than its digest"));
    }
}
