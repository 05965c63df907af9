SELECT product_id::text, on_hand FROM stock
