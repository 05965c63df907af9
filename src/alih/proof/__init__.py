"""What alih can show of the sales that it moved: tried, traced from end to end, matched to the rupiah, and scored."""
