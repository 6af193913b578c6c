//! What changes no state vector: priority, progress, tags (`execution.md` 4.9 to 4.11).

use std::collections::BTreeMap;

use ff_core::bounds::MAX_TAGS;
use ff_core::contracts::{
    ChangePriorityArgs, ChangePriorityResult, SetExecutionTagsArgs, SetExecutionTagsResult, UpdateProgressArgs,
    UpdateProgressResult,
};
use ff_core::error::EngineError;
use ff_core::records::Progress;
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;

use super::check_not_terminal;
use crate::model::Partition;
use crate::routines::{check_fence, touch};

/// Sets the priority; the execution moves in its queue if it is in one.
///
/// # Errors
/// `execution_terminal`.
pub fn change_priority(
    p: &mut Partition,
    now: TimestampMs,
    args: &ChangePriorityArgs,
) -> Result<ChangePriorityResult, EngineError> {
    check_not_terminal(p.find(&args.execution_id)?)?;
    let mut x = p.take(args.execution_id.uuid())?;
    let old = std::mem::replace(&mut x.record.priority, args.priority);
    touch(&mut x, now);
    let summary = x.summary();
    p.put(x, now);
    Ok(ChangePriorityResult::Changed { old, new: args.priority, summary })
}

/// Records a worker's progress.
///
/// # Errors
/// The fence check.
pub fn update_progress(
    p: &mut Partition,
    now: TimestampMs,
    args: &UpdateProgressArgs,
) -> Result<UpdateProgressResult, EngineError> {
    check_fence(p.find(&args.execution_id)?, &args.fence, now)?;
    let mut x = p.take(args.execution_id.uuid())?;
    let before = x.record.progress.take();
    let (pct, message) = before.map_or((None, None), |b| (b.pct, b.message));
    let message = match &args.message {
        Some(text) if text.is_empty() => None,
        Some(text) => Some(text.clone()),
        None => message,
    };
    x.record.progress = Some(Progress { pct: args.pct.or(pct), message, updated_at: now });
    touch(&mut x, now);
    let summary = x.summary();
    p.put(x, now);
    Ok(UpdateProgressResult::Updated { summary })
}

/// Applies tag changes, all or none.
///
/// # Errors
/// `too_many_tags`.
pub(crate) fn changed_tags(
    tags: &BTreeMap<String, String>,
    changes: &BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut tags = tags.clone();
    for (key, value) in changes {
        match value {
            Some(value) => tags.insert(key.clone(), value.clone()),
            None => tags.remove(key),
        };
    }
    if tags.len() > MAX_TAGS {
        return Err(Refusal::too_many_tags(u32::try_from(MAX_TAGS).unwrap_or(u32::MAX)));
    }
    Ok(tags)
}

/// Sets and deletes tags, in every phase.
///
/// # Errors
/// `too_many_tags`.
pub fn set_execution_tags(
    p: &mut Partition,
    now: TimestampMs,
    args: &SetExecutionTagsArgs,
) -> Result<SetExecutionTagsResult, EngineError> {
    let tags = changed_tags(&p.find(&args.execution_id)?.record.tags, &args.tags)?;
    let mut x = p.take(args.execution_id.uuid())?;
    let count = u32::try_from(tags.len()).unwrap_or(u32::MAX);
    x.record.tags = tags;
    touch(&mut x, now);
    let summary = x.summary();
    p.put(x, now);
    Ok(SetExecutionTagsResult::Tagged { count, summary })
}
