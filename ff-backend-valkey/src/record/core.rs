//! What never changes after the creation: packed by Rust, opaque to Lua but for the key.

use std::sync::Arc;

use ff_core::ids::Namespace;
use ff_core::policy::ExecutionPolicy;

use crate::call::Pack;

/// The parts that never change after the creation, as Rust packs them.
pub(crate) struct Core<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) kind: &'a str,
    pub(crate) encoding: Option<&'a str>,
    pub(crate) creator: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
    pub(crate) key_in_flow: bool,
    pub(crate) policy: &'a ExecutionPolicy,
}

impl Core<'_> {
    pub(crate) fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::new();
        pack.text(self.namespace.as_str())
            .text(self.kind)
            .text_opt(self.encoding)
            .text_opt(self.creator)
            .text_opt(self.key)
            .flag(self.key_in_flow)
            .bytes(&slim_policy(self.policy));
        pack.finish()
    }
}

/// The policy as JSON without what equals the default; nothing for the default itself.
fn slim_policy(policy: &ExecutionPolicy) -> Vec<u8> {
    if *policy == ExecutionPolicy::default() {
        return Vec::new();
    }
    let mut full = serde_json::to_value(policy).unwrap_or_default();
    let default = serde_json::to_value(ExecutionPolicy::default()).unwrap_or_default();
    slim(&mut full, &default);
    serde_json::to_vec(&full).unwrap_or_default()
}

/// Leaves out the fields of structs that are as in `default`; enums and lists stay whole.
fn slim(value: &mut serde_json::Value, default: &serde_json::Value) {
    let (Some(fields), Some(defaults)) = (value.as_object_mut(), default.as_object()) else { return };
    for (name, default) in defaults {
        let Some(field) = fields.get_mut(name) else { continue };
        if field == default {
            fields.remove(name);
        } else if !default.as_object().is_some_and(|d| d.contains_key("type")) {
            slim(field, default);
        }
    }
}

pub(super) fn fat_policy(json: &[u8]) -> Option<Arc<ExecutionPolicy>> {
    if json.is_empty() {
        return Some(Arc::default());
    }
    serde_json::from_slice(json).ok().map(Arc::new)
}
