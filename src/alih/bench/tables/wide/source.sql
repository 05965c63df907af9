CREATE TABLE orders (
    order_id bigint PRIMARY KEY,
    shop_id bigint NOT NULL,
    buyer_id bigint NOT NULL,
    status text NOT NULL,
    total_amount numeric(18,2) NOT NULL,
    note text,
    create_time bigint NOT NULL
)
