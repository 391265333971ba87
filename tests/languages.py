"""A short text in each of 42 languages, and the encodings in which such texts are found.

Not among the texts that llmkit/text/letter_pairs.npz was made from.
"""

from collections.abc import Iterator

TEXTS = {
    "cs": "Když jsme přišli k řece, byla už tma a nikdo nevěděl, kde leží loďka. Starý převozník seděl v chalupě u ohně a vyprávěl dětem o povodni z roku 1872. Ráno jsme si půjčili dva koně, naložili pytle s moukou a vydali se přes kopce do města. Cesta trvala skoro šest hodin, protože most u mlýna strhla voda. Žádný z nás netušil, že se ještě téhož večera vrátíme domů s prázdnýma rukama. Úřad byl zavřený a na dveřích visel lístek: přijďte v pondělí.",
    "sk": "Keď sme prišli k rieke, bola už tma a nikto nevedel, kde leží čln. Starý prievozník sedel v chalupe pri ohni a rozprával deťom o povodni z roku 1872. Ráno sme si požičali dva kone, naložili vrecia s múkou a vybrali sa cez kopce do mesta. Cesta trvala takmer šesť hodín, pretože most pri mlyne strhla voda. Nikto z nás netušil, že sa ešte v ten večer vrátime domov s prázdnymi rukami. Úrad bol zatvorený, vôbec nikde nebolo počuť ľudí.",
    "pl": "Kiedy doszliśmy do rzeki, było już ciemno i nikt nie wiedział, gdzie leży łódka. Stary przewoźnik siedział w chacie przy ogniu i opowiadał dzieciom o powodzi z 1872 roku. Rano pożyczyliśmy dwa konie, załadowaliśmy worki z mąką i ruszyliśmy przez wzgórza do miasta. Droga trwała prawie sześć godzin, ponieważ woda zerwała most przy młynie. Żaden z nas nie przypuszczał, że jeszcze tego wieczoru wrócimy do domu z pustymi rękami. Urząd był zamknięty, ćwierć wsi spała.",
    "hu": "Amikor a folyóhoz értünk, már sötét volt, és senki sem tudta, hol fekszik a csónak. Az öreg révész a kunyhóban ült a tűz mellett, és az 1872-es árvízről mesélt a gyerekeknek. Reggel kölcsönkértünk két lovat, felraktuk a liszteszsákokat, és elindultunk a dombokon át a városba. Az út majdnem hat óráig tartott, mert a malomnál elvitte a hidat a víz. Egyikünk sem sejtette, hogy még aznap este üres kézzel térünk haza. A hivatal zárva volt, őrült szél fújt.",
    "ro": "Când am ajuns la râu era deja întuneric şi nimeni nu ştia unde se află barca. Bătrânul luntraş şedea în colibă lângă foc şi le povestea copiilor despre inundaţia din 1872. Dimineaţa am împrumutat doi cai, am încărcat sacii cu făină şi am pornit peste dealuri spre oraş. Drumul a durat aproape şase ore, pentru că apa luase podul de la moară. Niciunul dintre noi nu bănuia că în aceeaşi seară ne vom întoarce acasă cu mâinile goale. Primăria era închisă.",
    "hr": "Kad smo stigli do rijeke, već je bio mrak i nitko nije znao gdje leži čamac. Stari splavar sjedio je u kolibi kraj vatre i pričao djeci o poplavi iz 1872. godine. Ujutro smo posudili dva konja, natovarili vreće brašna i krenuli preko brda u grad. Put je trajao gotovo šest sati jer je voda odnijela most kod mlina. Nitko od nas nije slutio da ćemo se još iste večeri vratiti kući praznih ruku. Ured je bio zatvoren, a đaci su već otišli na željeznički kolodvor.",
    "sl": "Ko smo prišli do reke, je bila že tema in nihče ni vedel, kje leži čoln. Stari brodar je sedel v koči ob ognju in otrokom pripovedoval o poplavi leta 1872. Zjutraj smo si sposodili dva konja, naložili vreče z moko in se odpravili čez hribe v mesto. Pot je trajala skoraj šest ur, ker je voda odnesla most pri mlinu. Nihče od nas ni slutil, da se bomo še isti večer vrnili domov praznih rok. Urad je bil zaprt, na vratih pa je visel listek: pridite v četrtek.",
    "sq": "Kur arritëm te lumi, ishte errësirë dhe askush nuk e dinte ku ishte varka. Lundërtari plak rrinte në kasolle pranë zjarrit dhe u tregonte fëmijëve për përmbytjen e vitit 1872. Në mëngjes morëm hua dy kuaj, ngarkuam thasët me miell dhe u nisëm përmes kodrave drejt qytetit. Rruga zgjati gati gjashtë orë, sepse uji e kishte marrë urën te mulliri. Askush prej nesh nuk e çonte nëpër mend se po atë mbrëmje do të ktheheshim në shtëpi duarbosh.",
    "tr": "Irmağa vardığımızda hava kararmıştı ve kayığın nerede olduğunu kimse bilmiyordu. Yaşlı kayıkçı kulübede ateşin başında oturuyor, çocuklara 1872 yılındaki seli anlatıyordu. Sabahleyin iki at ödünç aldık, un çuvallarını yükledik ve tepeleri aşarak şehre doğru yola çıktık. Yol neredeyse altı saat sürdü, çünkü değirmenin yanındaki köprüyü su götürmüştü. Hiçbirimiz aynı akşam eve eli boş döneceğimizi düşünmüyordu. İstasyon kapalıydı, öğrenciler gölgede bekliyordu.",
    "el": "Όταν φτάσαμε στο ποτάμι είχε ήδη σκοτεινιάσει και κανείς δεν ήξερε πού βρισκόταν η βάρκα. Ο γέρος βαρκάρης καθόταν στην καλύβα δίπλα στη φωτιά και διηγόταν στα παιδιά την πλημμύρα του 1872. Το πρωί δανειστήκαμε δύο άλογα, φορτώσαμε τα σακιά με το αλεύρι και ξεκινήσαμε πάνω από τους λόφους για την πόλη. Ο δρόμος κράτησε σχεδόν έξι ώρες, γιατί το νερό είχε πάρει τη γέφυρα στον μύλο. Κανένας μας δεν φανταζόταν ότι το ίδιο βράδυ θα γυρίζαμε με άδεια χέρια.",
    "ru": "Когда мы пришли к реке, было уже темно, и никто не знал, где лежит лодка. Старый перевозчик сидел в избе у огня и рассказывал детям о наводнении 1872 года. Утром мы взяли взаймы двух лошадей, погрузили мешки с мукой и отправились через холмы в город. Дорога заняла почти шесть часов, потому что мост у мельницы снесло водой. Никто из нас не подозревал, что ещё в тот же вечер мы вернёмся домой с пустыми руками. Контора была закрыта, на дверях висела записка.",
    "uk": "Коли ми прийшли до річки, було вже темно, і ніхто не знав, де лежить човен. Старий перевізник сидів у хаті біля вогню і розповідав дітям про повінь 1872 року. Уранці ми позичили двох коней, навантажили мішки з борошном і вирушили через пагорби до міста. Дорога тривала майже шість годин, бо міст біля млина знесла вода. Ніхто з нас не здогадувався, що ще того самого вечора ми повернемося додому з порожніми руками. Контора була зачинена, її відчиняють у середу.",
    "be": "Калі мы прыйшлі да ракі, было ўжо цёмна, і ніхто не ведаў, дзе ляжыць човен. Стары перавозчык сядзеў у хаце ля агню і расказваў дзецям пра паводку 1872 года. Раніцай мы пазычылі двух коней, нагрузілі мяшкі з мукой і рушылі праз пагоркі ў горад. Дарога заняла амаль шэсць гадзін, бо мост каля млына знесла вада. Ніхто з нас не здагадваўся, што яшчэ ў той самы вечар мы вернемся дадому з пустымі рукамі. Кантора была зачынена, на дзвярах вісела запіска.",
    "bg": "Когато стигнахме до реката, беше вече тъмно и никой не знаеше къде е лодката. Старият лодкар седеше в колибата край огъня и разказваше на децата за наводнението от 1872 година. На сутринта взехме назаем два коня, натоварихме чувалите с брашно и тръгнахме през хълмовете към града. Пътят отне почти шест часа, защото водата беше отнесла моста при мелницата. Никой от нас не подозираше, че още същата вечер ще се върнем у дома с празни ръце.",
    "sr": "Кад смо стигли до реке, већ је био мрак и нико није знао где лежи чамац. Стари скелеџија седео је у колиби крај ватре и причао деци о поплави из 1872. године. Ујутру смо позајмили два коња, натоварили џакове брашна и кренули преко брда у град. Пут је трајао готово шест сати јер је вода однела мост код млина. Нико од нас није слутио да ћемо се још исте вечери вратити кући празних руку. Канцеларија је била затворена, а ђаци су већ отишли.",
    "mk": "Кога стигнавме до реката, веќе беше темно и никој не знаеше каде е чамецот. Стариот чамџија седеше во колибата покрај огнот и им раскажуваше на децата за поплавата од 1872 година. Утрото позајмивме два коња, ги натоваривме вреќите со брашно и тргнавме преку ридовите кон градот. Патот траеше речиси шест часа, бидејќи водата го однела мостот кај воденицата. Никој од нас не претпоставуваше дека истата вечер ќе се вратиме дома со празни раце.",
    "he": "כשהגענו אל הנהר כבר היה חושך ואיש לא ידע היכן נמצאת הסירה. המעבוראי הזקן ישב בבקתה ליד האש וסיפר לילדים על השיטפון של שנת 1872. בבוקר שאלנו שני סוסים, העמסנו את שקי הקמח ויצאנו דרך הגבעות אל העיר. הדרך נמשכה כמעט שש שעות, כי המים סחפו את הגשר שליד הטחנה. איש מאיתנו לא שיער שעוד באותו ערב נחזור הביתה בידיים ריקות. המשרד היה סגור, ועל הדלת היה תלוי פתק קטן: נא לבוא ביום שני בבוקר. הילדים צחקו והלכו לישון מוקדם.",
    "ar": "عندما وصلنا إلى النهر كان الظلام قد حل ولم يكن أحد يعرف أين القارب. كان المراكبي العجوز جالسا في الكوخ قرب النار يحكي للأطفال عن فيضان سنة 1872. في الصباح استعرنا حصانين وحملنا أكياس الدقيق وانطلقنا عبر التلال إلى المدينة. استغرق الطريق ست ساعات تقريبا، لأن الماء جرف الجسر عند الطاحونة. لم يكن أي منا يظن أننا سنعود في المساء نفسه إلى البيت بأيد فارغة. كان المكتب مغلقا وعلى الباب ورقة صغيرة.",
    "fa": "وقتي به رودخانه رسيديم هوا تاريک شده بود و هيچ کس نمي دانست قايق کجاست. قايقران پير در کلبه کنار آتش نشسته بود و براي بچه ها از سيل سال 1872 تعريف مي کرد. صبح دو اسب قرض گرفتيم، کيسه هاي آرد را بار کرديم و از ميان تپه ها به سوي شهر راه افتاديم. راه نزديک به شش ساعت طول کشيد، چون آب پل کنار آسياب را برده بود. هيچ کدام از ما گمان نمي کرد که همان شب دست خالي به خانه برگرديم. چهار پيرمرد ژنده پوش پيش ما آمدند.",
    "th": "เมื่อเราไปถึงแม่น้ำก็มืดแล้ว และไม่มีใครรู้ว่าเรืออยู่ที่ไหน คนแจวเรือแก่นั่งอยู่ในกระท่อมข้างกองไฟ เล่าเรื่องน้ำท่วมเมื่อปี 1872 ให้เด็กๆ ฟัง ตอนเช้าเรายืมม้ามาสองตัว บรรทุกกระสอบแป้งแล้วเดินทางข้ามเนินเขาไปยังเมือง ใช้เวลาเกือบหกชั่วโมง เพราะน้ำพัดสะพานที่โรงสีไปแล้ว ไม่มีใครคิดว่าเย็นวันเดียวกันนั้นเราจะกลับบ้านมือเปล่า สำนักงานปิด ที่ประตูมีกระดาษแผ่นหนึ่งติดไว้",
    "vi": "Khi chúng tôi đến bờ sông thì trời đã tối và không ai biết chiếc thuyền nằm ở đâu. Ông lái đò già ngồi trong lều bên bếp lửa, kể cho bọn trẻ nghe về trận lụt năm 1872. Sáng hôm sau chúng tôi mượn hai con ngựa, chất những bao bột mì lên rồi đi qua những ngọn đồi vào thành phố. Đường đi mất gần sáu tiếng đồng hồ, vì nước đã cuốn trôi cây cầu cạnh cối xay. Không ai trong chúng tôi ngờ rằng ngay tối hôm ấy lại trở về nhà với hai bàn tay trắng.",
    "lt": "Kai atėjome prie upės, buvo jau tamsu ir niekas nežinojo, kur guli valtis. Senas keltininkas sėdėjo troboje prie ugnies ir pasakojo vaikams apie 1872 metų potvynį. Rytą pasiskolinome du arklius, sukrovėme miltų maišus ir leidomės per kalvas į miestą. Kelias truko beveik šešias valandas, nes tiltą prie malūno nunešė vanduo. Nė vienas iš mūsų nenujautė, kad dar tą patį vakarą grįšime namo tuščiomis rankomis. Įstaiga buvo uždaryta, o ąžuolų šakos lūžo nuo vėjo.",
    "lv": "Kad nonācām pie upes, bija jau tumšs un neviens nezināja, kur atrodas laiva. Vecais pārcēlājs sēdēja būdā pie uguns un stāstīja bērniem par 1872. gada plūdiem. No rīta aizņēmāmies divus zirgus, sakrāvām miltu maisus un devāmies pāri pakalniem uz pilsētu. Ceļš ilga gandrīz sešas stundas, jo tiltu pie dzirnavām bija aiznesis ūdens. Neviens no mums nenojauta, ka vēl tajā pašā vakarā atgriezīsimies mājās tukšām rokām. Iestāde bija slēgta, ģimenes jau gulēja.",
    "et": "Kui me jõe äärde jõudsime, oli juba pime ja keegi ei teadnud, kus paat on. Vana paadimees istus onnis tule ääres ja jutustas lastele 1872. aasta üleujutusest. Hommikul laenasime kaks hobust, laadisime jahukotid peale ja asusime üle küngaste linna poole teele. Sõit kestis peaaegu kuus tundi, sest vesi oli veski juures silla ära viinud. Keegi meist ei aimanud, et jõuame veel samal õhtul tühjade kätega koju tagasi. Kontor oli suletud, žürii läks öömajale.",
    "fi": "Kun tulimme joelle, oli jo pimeää eikä kukaan tiennyt, missä vene oli. Vanha lautturi istui mökissä tulen ääressä ja kertoi lapsille vuoden 1872 tulvasta. Aamulla lainasimme kaksi hevosta, lastasimme jauhosäkit ja lähdimme kukkuloiden yli kaupunkiin. Matka kesti melkein kuusi tuntia, sillä vesi oli vienyt sillan myllyn luota. Kukaan meistä ei aavistanut, että palaisimme vielä samana iltana kotiin tyhjin käsin. Virasto oli kiinni, ja ovella riippui pieni lappu: tulkaa keskiviikkona. Älä jää yöksi.",
    "sv": "När vi kom fram till ån var det redan mörkt och ingen visste var båten låg. Den gamle färjkarlen satt i stugan vid elden och berättade för barnen om översvämningen 1872. På morgonen lånade vi två hästar, lastade mjölsäckarna och gav oss av över kullarna mot staden. Färden tog nästan sex timmar, eftersom vattnet hade tagit bron vid kvarnen. Ingen av oss anade att vi redan samma kväll skulle återvända hem med tomma händer. Ämbetsverket var stängt.",
    "da": "Da vi kom til åen, var det allerede mørkt, og ingen vidste, hvor båden lå. Den gamle færgemand sad i hytten ved ilden og fortalte børnene om oversvømmelsen i 1872. Om morgenen lånte vi to heste, læssede melsækkene på og drog af sted over bakkerne mod byen. Rejsen tog næsten seks timer, fordi vandet havde taget broen ved møllen. Ingen af os anede, at vi allerede samme aften ville vende hjem med tomme hænder. Kontoret var lukket, og på døren hang en seddel.",
    "nb": "Da vi kom til elva, var det allerede mørkt, og ingen visste hvor båten lå. Den gamle fergemannen satt i hytta ved bålet og fortalte barna om flommen i 1872. Om morgenen lånte vi to hester, lastet melsekkene og dro av gårde over åsene mot byen. Reisen tok nesten seks timer, fordi vannet hadde tatt brua ved mølla. Ingen av oss ante at vi allerede samme kveld skulle vende hjem med tomme hender. Kontoret var stengt, og på døra hang det en lapp: kom på lørdag.",
    "is": "Þegar við komum að ánni var orðið dimmt og enginn vissi hvar báturinn lá. Gamli ferjumaðurinn sat í kofanum við eldinn og sagði börnunum frá flóðinu árið 1872. Um morguninn fengum við lánaða tvo hesta, hlóðum á þá mjölpokunum og lögðum af stað yfir hæðirnar til bæjarins. Ferðin tók næstum sex klukkustundir, því að vatnið hafði tekið brúna við mylluna. Ekkert okkar grunaði að við myndum snúa heim tómhent það sama kvöld. Skrifstofan var lokuð.",
    "de": "Als wir an den Fluss kamen, war es schon dunkel, und niemand wusste, wo der Kahn lag. Der alte Fährmann saß in der Hütte am Feuer und erzählte den Kindern von der Überschwemmung im Jahr 1872. Am Morgen liehen wir zwei Pferde, luden die Mehlsäcke auf und zogen über die Hügel in die Stadt. Der Weg dauerte beinahe sechs Stunden, weil das Wasser die Brücke bei der Mühle fortgerissen hatte. Keiner von uns ahnte, dass wir noch am selben Abend mit leeren Händen zurückkämen.",
    "fr": "Quand nous arrivâmes à la rivière, il faisait déjà nuit et personne ne savait où était la barque. Le vieux passeur était assis dans la cabane près du feu et racontait aux enfants la crue de 1872. Le lendemain, nous empruntâmes deux chevaux, chargeâmes les sacs de farine et partîmes à travers les collines vers la ville. Le trajet dura près de six heures, car l'eau avait emporté le pont du moulin. Aucun de nous ne se doutait que, le soir même, nous rentrerions les mains vides. À côté, tout était fermé, même le garçon d'écurie dormait.",
    "es": "Cuando llegamos al río ya había oscurecido y nadie sabía dónde estaba la barca. El viejo barquero se sentaba en la cabaña junto al fuego y contaba a los niños la inundación de 1872. Por la mañana pedimos prestados dos caballos, cargamos los sacos de harina y salimos por las colinas hacia la ciudad. El camino duró casi seis horas, porque el agua se había llevado el puente del molino. ¿Quién podía imaginar que aquella misma noche volveríamos con las manos vacías? ¡Qué lástima! Mañana será otro día.",
    "pt": "Quando chegámos ao rio já estava escuro e ninguém sabia onde estava o barco. O velho barqueiro estava sentado na cabana junto ao lume e contava às crianças a inundação de 1872. De manhã pedimos dois cavalos emprestados, carregámos os sacos de farinha e partimos pelas colinas para a cidade. O caminho durou quase seis horas, porque a água tinha levado a ponte do moinho. Nenhum de nós suspeitava que ainda nessa noite voltaríamos para casa de mãos vazias. A repartição estava fechada, não havia ninguém.",
    "it": "Quando arrivammo al fiume era già buio e nessuno sapeva dove fosse la barca. Il vecchio traghettatore sedeva nella capanna accanto al fuoco e raccontava ai bambini l'alluvione del 1872. La mattina prendemmo in prestito due cavalli, caricammo i sacchi di farina e partimmo attraverso le colline verso la città. Il viaggio durò quasi sei ore, perché l'acqua aveva portato via il ponte del mulino. Nessuno di noi immaginava che la sera stessa saremmo tornati a mani vuote. L'ufficio era chiuso, perciò si dormì più in là.",
    "ca": "Quan vam arribar al riu ja era fosc i ningú no sabia on era la barca. El vell barquer seia a la cabana vora el foc i explicava als nens la inundació del 1872. Al matí vam manllevar dos cavalls, vam carregar els sacs de farina i vam sortir pels turons cap a la ciutat. El camí va durar gairebé sis hores, perquè l'aigua s'havia endut el pont del molí. Cap de nosaltres no sospitava que aquell mateix vespre tornaríem a casa amb les mans buides. L'oficina era tancada, i això no ens féu gràcia.",
    "nl": "Toen we bij de rivier kwamen was het al donker en niemand wist waar de boot lag. De oude veerman zat in de hut bij het vuur en vertelde de kinderen over de overstroming van 1872. 's Morgens leenden we twee paarden, laadden de zakken meel op en trokken over de heuvels naar de stad. De reis duurde bijna zes uur, omdat het water de brug bij de molen had meegenomen. Geen van ons vermoedde dat we nog diezelfde avond met lege handen zouden terugkeren. Eén ding wist iedereen: België en Azië zijn ver, één koninkrijk is geen coöperatie.",
    "en": "When we reached the river it was dark and nobody knew where the boat was. The old ferryman sat in the café by the fire and told the children about the flood of 1872. In the morning we borrowed two horses, loaded the sacks of flour and set off over the hills to town. The naïve clerk had lost his résumé, and his fiancée said it was déjà vu. It took us almost six hours, for the water had carried off the bridge by the mill. None of us knew that we would be home that night with empty hands. The façade was closed.",
    "ja": "私たちが川に着いたとき、もう暗くなっていて、誰も舟がどこにあるのか知らなかった。年老いた渡し守は小屋の火のそばに座り、1872年の洪水の話を子供たちに聞かせていた。朝になると馬を二頭借り、小麦粉の袋を積んで、丘を越えて町へ向かった。水車小屋の橋が流されていたので、道のりは六時間近くかかった。その日の夕方に手ぶらで家へ帰ることになるとは、誰も思っていなかった。",
    "ko": "우리가 강에 도착했을 때는 이미 어두워져 있었고 아무도 배가 어디에 있는지 몰랐다. 늙은 뱃사공은 오두막의 불가에 앉아 아이들에게 1872년의 홍수 이야기를 들려주고 있었다. 아침에 우리는 말 두 마리를 빌려 밀가루 자루를 싣고 언덕을 넘어 시내로 떠났다. 물레방앗간 옆의 다리가 물에 떠내려갔기 때문에 길은 거의 여섯 시간이나 걸렸다. 그날 저녁에 빈손으로 집에 돌아오게 되리라고는 아무도 생각하지 못했다.",
    "zh-hans": "我们到河边的时候天已经黑了，谁也不知道小船在什么地方。老船夫坐在屋里的火堆旁边，给孩子们讲1872年那场大水的故事。早上我们借了两匹马，装上面粉口袋，翻过山头往城里去。路上走了差不多六个小时，因为磨坊旁边的桥被水冲走了。我们谁都没有想到，当天晚上就会两手空空地回家。办公室关着门，门上贴着一张纸条：请星期一再来。",
    "zh-hant": "我們到河邊的時候天已經黑了，誰也不知道小船在什麼地方。老船夫坐在屋裡的火堆旁邊，給孩子們講1872年那場大水的故事。早上我們借了兩匹馬，裝上麵粉口袋，翻過山頭往城裡去。路上走了差不多六個小時，因為磨坊旁邊的橋被水沖走了。我們誰都沒有想到，當天晚上就會兩手空空地回家。辦公室關著門，門上貼著一張紙條：請星期一再來。",
}  # fmt: skip

_CENTRAL = "cp1250 iso8859-2 cp852 mac-latin2"
_WEST = "cp1252 latin-1 iso8859-15 cp850 cp437 mac-roman"
_CYRILLIC = "cp1251 iso8859-5 cp866 koi8-r koi8-u mac-cyrillic"
ENCODINGS = {
    **dict.fromkeys(["cs", "sk", "pl", "hu", "ro", "hr", "sl", "sq"], _CENTRAL),
    **dict.fromkeys(["ru", "uk", "be", "bg", "sr", "mk"], _CYRILLIC),
    **dict.fromkeys(["fi", "sv", "da", "nb", "is", "de", "fr", "es", "pt", "it", "ca", "nl", "en"], _WEST),
    "tr": "cp1254 iso8859-9 cp857",
    "el": "cp1253 iso8859-7 cp737 mac-greek",
    "he": "cp1255 iso8859-8 cp862",
    "ar": "cp1256 iso8859-6",
    "fa": "cp1256",
    "th": "cp874 tis-620",
    "vi": "cp1258",
    **dict.fromkeys(["lt", "lv", "et"], "cp1257 iso8859-13 iso8859-4 cp775"),
    "ja": "cp932 shift_jis euc_jp iso2022_jp",
    "ko": "cp949 euc_kr",
    "zh-hans": "gb18030 gbk gb2312",
    "zh-hant": "big5 cp950 big5hkscs gbk",
}
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


def encode_texts() -> Iterator[tuple[str, str, bytes]]:
    """(language, encoding, bytes) of every text in every encoding that has its letters."""
    for language, text in TEXTS.items():
        for encoding in ENCODINGS[language].split():
            data = encode(text, encoding)
            if data is not None:
                yield language, encoding, data


# cp1258 writes the tone of a vowel after it.
_TONES = {"\u0300", "\u0301", "\u0303", "\u0309", "\u0323"}


def encode(text: str, encoding: str) -> bytes | None:
    """The text in an encoding; None if it lacks a character."""
    if encoding == "cp1258":
        text = split_tones(text)
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return None


def split_tones(text: str) -> str:
    """Vietnamese with the tones as characters of their own, where cp1258 lacks the vowel with its tone."""
    import unicodedata

    parts = []
    for char in unicodedata.normalize("NFC", text):
        full = unicodedata.normalize("NFD", char)
        tones = "".join(mark for mark in full if mark in _TONES)
        base = unicodedata.normalize("NFC", "".join(mark for mark in full if mark not in _TONES))
        parts.append(base + tones if tones else char)
    return "".join(parts)
