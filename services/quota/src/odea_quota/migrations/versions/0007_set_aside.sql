-- Events that are larger than the bus takes. They would keep all behind them from leaving; here they wait for an operator.
CREATE TABLE quota.outbox_set_aside (
    id bigint PRIMARY KEY,
    subject text NOT NULL,
    event_id uuid NOT NULL,
    source text NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL,
    set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
