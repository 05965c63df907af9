"""The social shop's own back end (modelled on TikTok Shop): the side that shops leave."""
