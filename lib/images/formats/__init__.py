"""File formats whose tags say what their pixels mean, one file each; `lib.images.reading` uses them."""
