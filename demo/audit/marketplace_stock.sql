SELECT item_id::text, available FROM inventory WHERE channel = 'social'
