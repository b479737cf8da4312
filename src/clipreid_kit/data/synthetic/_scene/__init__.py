"""From an identity and a camera to pixels: poses, painting, backgrounds, occluders and exposure."""
