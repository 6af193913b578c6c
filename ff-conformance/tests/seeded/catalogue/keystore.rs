//! Lies about signing keys.

use super::prelude::*;

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "rotation without grace",
        story: "the old key goes at once, and every link in every mailbox is dead",
        by: "keystore::rotate_waitpoint_hmac_secret::a token issued before a rotation works",
        operations: &[Op::RotateWaitpointHmacSecret],
        lie: Tells(|s, op, answer| {
            if let (Operation::RotateWaitpointHmacSecret(args), Ok(_)) = (op, &answer) {
                let now = s.now();
                s.backend.alter_keys(args.partition, |keys| {
                    for (_, record) in keys.kids.iter_mut().filter(|(kid, _)| **kid != args.new_kid) {
                        record.expires_at = record.expires_at.map(|at| at.min(now));
                    }
                });
            }
            answer
        }),
    },
    Bug {
        name: "kid expiry compared exclusively",
        story: "the token works at the instant at which it has expired",
        by: "keystore::rotate_waitpoint_hmac_secret::a token issued before a rotation works",
        operations: &[Op::DeliverSignal],
        lie: Call(|s, op| {
            let args = args!(s, op, DeliverSignal);
            let (now, kid) = (s.now(), args.waitpoint_token.kid());
            s.backend.alter_keys(args.execution_id.partition(), |keys| {
                let record = kid.and_then(|kid| keys.kids.get_mut(&kid)).filter(|k| k.expires_at == Some(now));
                if let Some(record) = record {
                    record.expires_at = Some(now.after(1));
                }
            });
            s.call(args)
        }),
    },
    Bug {
        name: "revoked kid comes back",
        story: "the leaked key is installed again by a script that repeats last month's rotation",
        by: "keystore::rotate_waitpoint_hmac_secret::A to B to A with A's",
        operations: &[Op::RotateWaitpointHmacSecret],
        lie: Call(|s, op| {
            let args = args!(s, op, RotateWaitpointHmacSecret);
            s.backend.alter_keys(args.partition, |keys| {
                keys.kids.retain(|kid, record| *kid != args.new_kid || record.revoked_at.is_none());
            });
            s.call(args)
        }),
    },
    Bug {
        name: "another secret under a known kid is a repeat",
        story: "two operators install two secrets under one name; half of the processes sign with each",
        by: "keystore::rotate_waitpoint_hmac_secret::A to B to A with A's",
        operations: &[Op::RotateWaitpointHmacSecret],
        lie: Call(|s, op| {
            let mut args = args!(s, op, RotateWaitpointHmacSecret);
            let name = format!("{} {}", args.partition, args.new_kid);
            let secret = s.kept().secrets.entry(name).or_insert(args.new_secret.clone()).clone();
            args.new_secret = secret;
            s.call(args)
        }),
    },
    Bug {
        name: "the current key can be revoked",
        story: "revoking the signing key leaves the partition without one, and every suspend fails",
        by: "keystore::revoke_waitpoint_kid::a kid revoked between verification and commit",
        operations: &[Op::RevokeWaitpointKid],
        lie: Call(|s, op| {
            let args = args!(s, op, RevokeWaitpointKid);
            s.backend.alter_keys(args.partition, |keys| {
                if keys.current_kid.as_ref() == Some(&args.kid) {
                    keys.current_kid = None;
                }
            });
            s.call(args)
        }),
    },
    Bug {
        name: "rotation acknowledged and lost",
        story: "the new key is stored in the cache that answers, and not in the store",
        by: "keystore::rotate_waitpoint_hmac_secret::a token issued before a rotation works",
        operations: &[Op::RotateWaitpointHmacSecret],
        lie: Call(|s, op| {
            let first = matches!(&op, Operation::RotateWaitpointHmacSecret(args)
                if matches!(s.call(ListWaitpointHmacKidsArgs { partition: args.partition }),
                    Ok(Outcome::ListWaitpointHmacKids(kids)) if kids.current_kid.is_none()));
            if first { s.call(op) } else { s.pretend(&op) }
        }),
    },
    Bug {
        name: "expired kids are still listed",
        story: "an audit shows keys that verify nothing any more",
        by: "keystore::list_waitpoint_hmac_kids::only unexpired kids are shown, by expiry",
        operations: &[Op::ListWaitpointHmacKids],
        lie: Call(|s, op| {
            let args = args!(s, op, ListWaitpointHmacKids);
            s.call_at(before(s.now()), args)
        }),
    },
];
