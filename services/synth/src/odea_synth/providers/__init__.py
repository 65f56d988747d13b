"""Where speech comes from. Every provider keeps the one promise of `base.Provider`, so that routing knows no names."""
