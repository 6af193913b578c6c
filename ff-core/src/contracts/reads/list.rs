//! Lists of executions and of attempts.

use bon::Builder;
use serde::{Deserialize, Serialize};

use super::cursor::{AttemptCursor, ExecutionCursor, InvalidCursor};
use super::default_limit;
use super::models::{AttemptSummary, ExecutionSummary};
use crate::bounds::{self, CheckArgs, Deployment};
use crate::ids::{AttemptIndex, ExecutionId, LaneId, Namespace};
use crate::records::ExecutionRecord;
use crate::refusal::Refusal;
use crate::state::PublicState;

/// Arguments of `list_executions`. Filters are joined by "and".
///
/// ```
/// use ff_core::contracts::{ListExecutionsArgs, PublicState};
/// let args = ListExecutionsArgs::builder()
///     .lane_id("default".parse()?)
///     .public_state(PublicState::Waiting)
///     .tag("team.name", "search")
///     .build();
/// # assert_eq!(args.limit, 100);
/// # Ok::<(), ff_core::ids::InvalidId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ListExecutionsArgs {
    /// Only this partition; none walks all of them in ascending order.
    #[serde(default)]
    pub partition: Option<u16>,
    /// Only this lane.
    #[serde(default)]
    pub lane_id: Option<LaneId>,
    /// Only this namespace.
    #[serde(default)]
    pub namespace: Option<Namespace>,
    /// Only this label.
    #[serde(default)]
    pub public_state: Option<PublicState>,
    /// Only with this tag: equal key and value.
    #[serde(default)]
    #[builder(with = |key: impl Into<String>, value: impl Into<String>| (key.into(), value.into()))]
    pub tag: Option<(String, String)>,
    /// The `next_cursor` of the page before; none begins a walk. It names a position, not the filters.
    #[serde(default)]
    #[builder(into)]
    pub cursor: Option<String>,
    /// The page's length at most, `1..=1000`; 100. A page may be shorter, or empty, while more remain.
    #[serde(default = "default_limit")]
    #[builder(default = default_limit())]
    pub limit: u32,
}

impl ListExecutionsArgs {
    /// Where the walk goes on.
    ///
    /// # Errors
    /// `invalid_input` (`cursor`) for a text that is no cursor, or one outside the given partition.
    pub fn position(&self) -> Result<Option<ExecutionCursor>, Refusal> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let cursor: ExecutionCursor = text.parse().map_err(|InvalidCursor| Refusal::invalid_input("cursor"))?;
        let within = self.partition.is_none_or(|partition| partition == cursor.after.partition());
        bounds::ensure(within, "cursor")?;
        Ok(Some(cursor))
    }

    /// Whether an execution passes the filters; its partition is not looked at.
    #[must_use]
    pub fn matches(&self, record: &ExecutionRecord) -> bool {
        self.lane_id.as_ref().is_none_or(|lane| *lane == record.lane_id)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == record.namespace)
            && self.public_state.is_none_or(|state| state == record.vector.public_state())
            && self.tag.as_ref().is_none_or(|(key, value)| record.tags.get(key) == Some(value))
    }
}

impl CheckArgs for ListExecutionsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        self.partition.map_or(Ok(()), |partition| deployment.partition(partition))?;
        if let Some((key, value)) = &self.tag {
            bounds::tag_key(key)?;
            bounds::text("tag", value)?;
        }
        let position = self.position()?;
        // A cursor of another deployment is a foreign text, not a wrong id.
        bounds::ensure(position.is_none_or(|p| deployment.partition(p.after.partition()).is_ok()), "cursor")?;
        bounds::page(self.limit)
    }
}

/// Result of `list_executions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListExecutionsResult {
    /// By execution id.
    pub executions: Vec<ExecutionSummary>,
    /// Only its absence ends the walk.
    pub next_cursor: Option<String>,
}

/// Arguments of `list_attempts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ListAttemptsArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The `next_cursor` of the page before; none begins a walk.
    #[serde(default)]
    #[builder(into)]
    pub cursor: Option<String>,
    /// The page's length at most, `1..=1000`; 100.
    #[serde(default = "default_limit")]
    #[builder(default = default_limit())]
    pub limit: u32,
}

impl ListAttemptsArgs {
    /// The first attempt that the page may hold; none when the cursor stands behind the last possible one.
    ///
    /// # Errors
    /// `invalid_input` (`cursor`) for a text that is no cursor.
    pub fn first(&self) -> Result<Option<AttemptIndex>, Refusal> {
        let Some(text) = &self.cursor else { return Ok(Some(AttemptIndex(0))) };
        let cursor: AttemptCursor = text.parse().map_err(|InvalidCursor| Refusal::invalid_input("cursor"))?;
        Ok(cursor.after.get().checked_add(1).map(AttemptIndex))
    }
}

impl CheckArgs for ListAttemptsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.first()?;
        bounds::page(self.limit)
    }
}

/// Result of `list_attempts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAttemptsResult {
    /// By index, of all runs.
    pub attempts: Vec<AttemptSummary>,
    /// Present exactly while more may remain.
    pub next_cursor: Option<String>,
}
