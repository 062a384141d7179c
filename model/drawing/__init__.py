"""Drawn aerial scenes with known outlines, in the order in which a scene comes to be.

`styles` say what a kind of settlement is made of. `street_grid` lays streets, `blocks` and
`open_ground` fill what lies between them, `occupancy` keeps things apart; the result is a
`scene_plan` in metres. `ground`, `roofs`, `trees` and `things` paint it on a `canvas`; `light`
casts shadows, `sensor` turns light into an image. `model.drawn_towns` is the way in.

Nothing here imports more than numpy and OpenCV.
"""
