CREATE TABLE trade_orders (
    trade_order_id text PRIMARY KEY,
    merchant_id bigint NOT NULL,
    user_id bigint NOT NULL,
    channel text NOT NULL,
    state smallint NOT NULL,
    amount_idr bigint NOT NULL,
    memo text,
    placed_at timestamptz NOT NULL
)
