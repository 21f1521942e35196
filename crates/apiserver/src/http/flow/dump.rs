//! What the debugging paths show. Source: `k8s.io/apiserver/pkg/util/flowcontrol/apf_controller_debug.go`.

use std::time::Duration;

use coracle_plan_flow::Flow;

/// Rows as text, columns under each other.
fn table(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let headers = headers.iter().map(|&header| header.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(headers).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(|column| width(column) + 2).collect();
    let mut out = String::new();
    for row in &rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell = if index + 1 < row.len() { format!("{cell},") } else { cell.clone() };
            out.push_str(&format!("{cell:<width$}"));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

pub(super) fn levels(flow: &Flow) -> String {
    let headers = [
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ];
    let row = |level: coracle_plan_flow::LevelReport| {
        let counts = level.counts;
        vec![
            level.name.to_string(),
            level.active_queues.to_string(),
            (counts.executing == 0 && counts.waiting == 0).to_string(),
            level.quiescing.to_string(),
            counts.waiting.to_string(),
            counts.executing.to_string(),
            counts.dispatched.to_string(),
            counts.rejected.to_string(),
            counts.timed_out.to_string(),
            counts.cancelled.to_string(),
        ]
    };
    table(&headers, flow.levels().into_iter().map(row).collect())
}

pub(super) fn queues(flow: &Flow) -> String {
    let headers = [
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "TotalWorkSum",
    ];
    let row = |queue: coracle_plan_flow::QueueReport| {
        vec![
            queue.level.to_string(),
            queue.index.to_string(),
            queue.waiting.to_string(),
            queue.executing.to_string(),
            queue.seats.to_string(),
            format!("{:.8}ss", queue.next),
            format!("{:.8}ss", queue.work),
        ]
    };
    table(&headers, flow.queues().into_iter().map(row).collect())
}

pub(super) fn requests(flow: &Flow, now: Duration) -> String {
    let headers = [
        "PriorityLevelName",
        "FlowSchemaName",
        "QueueIndex",
        "RequestIndexInQueue",
        "WaitingFor",
        "InitialSeats",
        "FinalSeats",
        "AdditionalLatency",
    ];
    let row = |waiting: coracle_plan_flow::WaitingReport| {
        let ticket = waiting.ticket;
        vec![
            ticket.level.to_string(),
            ticket.schema.to_string(),
            ticket.queue().map_or_else(|| "-1".to_owned(), |queue| queue.to_string()),
            waiting.position.to_string(),
            format!("{:?}", now.saturating_sub(ticket.arrived)),
            ticket.work.initial_seats.to_string(),
            ticket.work.final_seats.to_string(),
            format!("{:?}", ticket.work.linger),
        ]
    };
    table(&headers, flow.waiting().into_iter().map(row).collect())
}
