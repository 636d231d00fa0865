"""What each finding is called, and what to do about it."""

TITLES: dict[str, tuple[str, str]] = {
    "unusable": ("Cannot be read", "Export these files again, or delete them; they are left out."),
    "too short": (
        "Too short",
        "Preparation leaves these files out. Join them with others of the same speaker if they "
        "matter.",
    ),
    "duplicate": (
        "The same recording twice",
        "Delete one of each pair: a recording that is both learned from and held out makes the "
        "validation look better than the model is.",
    ),
    "clipped": (
        "Clipped",
        "The recording was too loud and its peaks are cut off, which is heard as crackling and is "
        "learned. Record again with less gain (peaks around -6 dBFS), or use a declipper.",
    ),
    "low rate": (
        "Recorded at a low sample rate",
        "There is nothing in the highs to learn: the voice will sound dull. Look for the original "
        "recording, at 44.1 or 48 kHz.",
    ),
    "upsampled": (
        "Less than the file promises: upsampled or compressed",
        "The highs are missing, as after a low sample rate, a telephone or a strong MP3. Saving "
        "it at a higher rate does not bring them back; look for the original recording.",
    ),
    "quiet": (
        "Very quiet",
        "Raise the level in an editor (peaks around -6 dBFS), and record closer or with more gain "
        "next time: noise is raised along with it.",
    ),
    "noisy": (
        "Noisy",
        "Noise is learned as part of the voice. Use a denoiser gently, or record in a quieter "
        "place, closer to the microphone.",
    ),
    "reverberant": (
        "Echo or reverberation",
        "The room is learned as part of the voice, and pitch is blurred by earlier notes. Use the "
        "dry vocal track, a dereverberation tool, or record in a room with soft furniture.",
    ),
    "room": (
        "Recorded in an echoing room",
        "All recordings of the speaker taken together have echo: it is learned as part of the "
        "voice. Record in a room with soft furniture, or use a dereverberation tool.",
    ),
    "several voices": (
        "Music or a second voice suspected",
        "Only one voice may be heard. Separate the vocals (with a source separation tool) and "
        "leave out duets, choirs and doubled takes. Listen first: a strong echo looks alike.",
    ),
    "silence": (
        "Mostly silence",
        "Nothing needs to be done: long silences are cut out. It is less material than it seems.",
    ),
    "doubtful pitch": (
        "Pitch trackers disagree",
        "Wrong pitch is the first cause of a hoarse conversion. Listen whether the voice is creaky "
        "or whispered, or masked by something, and leave out what even you cannot sing after.",
    ),
    "little material": (
        "Little material",
        "Ten minutes suffice for fine-tuning; 30 to 60 minutes of varied singing make a good "
        "voice.",
    ),
    "narrow range": (
        "Few different pitches",
        "The voice will only be convincing within the range that it was heard in. Add high and low "
        "passages.",
    ),
}
"""Kind of finding -> heading and advice."""
