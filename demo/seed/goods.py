"""What the shops sell, by picture."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goods:
    """One kind of goods; prices in rupiah, titles apart by commas."""

    picture: str
    shop: str
    cheapest: int
    dearest: int
    names: str

    @property
    def titles(self) -> list[str]:
        return self.names.split(", ")


ALL = (
    Goods("kopi", "Kopi", 18_000, 145_000, "Kopi Gayo, Kopi Toraja, Kopi Susu, Kopi Luwak, Kopi Robusta, Kopi Aren"),
    Goods("batik", "Batik", 65_000, 450_000, "Kemeja Parang, Sarung Tulis, Daster, Selendang, Kain Cap, Blus Mega"),
    Goods("sambal", "Dapur", 12_000, 68_000, "Sambal Roa, Sambal Bawang, Keripik Tempe, Abon, Bumbu Rendang, Kerupuk"),
    Goods("tas", "Tas", 25_000, 320_000, "Tas Pandan, Ransel Kanvas, Dompet Kulit, Tas Selempang, Totebag, Pouch"),
    Goods("kriya", "Kriya", 30_000, 260_000, "Mangkuk Jati, Lampu Bambu, Vas Gerabah, Talenan, Wayang, Keranjang"),
    Goods("sabun", "Rumah", 15_000, 95_000, "Sabun Sereh, Minyak Kelapa, Lulur Kopi, Lilin Aroma, Balsam, Sampo"),
)
CITIES = ("Bandung", "Yogyakarta", "Surabaya", "Medan", "Makassar", "Solo", "Denpasar", "Palembang", "Semarang")
